"""Other ways to say the same: the scenarios' sentences reworded, so that two people rarely use the same words.

Each line lists words that may stand for each other in the sentences of `phrases` without changing the mood.
"""

from __future__ import annotations

import random
import re

_LINES = """
terrified frightened petrified
scared afraid frightened
scary frightening terrifying
anxious worried nervous
worried anxious nervous
nervous jittery anxious
crashing collapsing tanking plunging
crash collapse meltdown
dumping sinking plunging tumbling
falling dropping sliding sinking
bloodbath massacre carnage
furious livid angry
angry furious mad livid
mad furious angry
hate despise loathe
disgusting revolting sickening
garbage trash rubbish junk
trash garbage junk
pathetic miserable lousy
outrageous disgraceful scandalous
disgraceful outrageous shameful
liars crooks cheats
thieves crooks robbers
scam fraud swindle
management executives bosses
devastated crushed shattered heartbroken
depressed gloomy miserable down
sad unhappy sorrowful
heartbroken devastated crushed
crying weeping sobbing
savings money cash
retirement pension
happy glad delighted cheerful
excited thrilled pumped stoked
amazing awesome fantastic brilliant
incredible amazing fantastic unreal
great excellent superb terrific
nice lovely pleasant
lovely sweet adorable
adorable lovely cute
delight joy pleasure
enjoy love savour
confident sure optimistic
gift bargain present
rally surge run
flying soaring rocketing
exploding shooting bursting
bouncing rebounding recovering
recovery rebound comeback
strong solid powerful
undervalued cheap underpriced
buying accumulating purchasing
loading stocking
adding picking
watching following tracking
shocked stunned astonished
stunned astonished amazed speechless
amazed astonished stunned
unbelievable incredible astonishing
believe trust
surprise shock bombshell
disappointed underwhelmed frustrated
letdown disappointment flop
disappointment letdown shame
expected hoped imagined
returned refunded
broke failed cracked
arrived landed came
works runs performs
perfectly flawlessly smoothly
evening afternoon morning weekend
tonight today
tomorrow soon
already meanwhile
really seriously truly
completely totally utterly
absolute utter complete
everywhere around
company firm business
reports publishes releases
meeting assembly
previous prior last
unit division branch
team crew engineers
looks seems appears
colours finishes versions
keynote presentation show
compare contrast
kids children youngsters
children kids toddlers
families households people
people folks residents
neighbours friends folks
mother mum
father dad
grandmother grandma granny
brother cousin uncle
sister cousin aunt
parents relatives grandparents
baby infant newborn
clean fresh
drinking potable bottled
bottled packaged canned
hungry starving famished
starving hungry
thirsty parched
food groceries meals
meal dinner lunch
roof ceiling rooftop
home house place
house home cottage
flooded swamped soaked underwater
rising climbing swelling
shelter refuge
tents tarps
blankets bedding
injured hurt wounded bleeding
hurt injured wounded
doctor medic physician
doctors medics physicians
nurses medics paramedics
overwhelmed overrun swamped
urgently immediately quickly
ambulance paramedic
generator battery
spoiled ruined rotten
trapped stranded stuck
stuck stranded trapped
collapsed fallen crushed
boat raft canoe
missing unreachable
search look
destroyed wrecked flattened ruined
thankful grateful blessed
relieved thankful
heroes angels legends
proud moved
volunteers helpers
shakes trembles rattles
wind storm gale
storm hurricane
horror nightmare terror
drowns sinks suffers
officials politicians leaders
government administration state
loot rob plunder
shame disgrace
send bring get
bring send carry
needs requires
free gratis
deliver carry distribute
closed shut blocked
remain stay
today tonight
smiling grinning laughing
gave brought
goosebumps chills shivers
hours minutes days
hyped excited ecstatic
charger cable dock
older former previous
camera lens
screen display panel
battery charge
keyboard keypad
speaker sound audio
design look shape
software firmware system
fun joy pleasure
minute second moment
daughter son niece nephew
robbery theft extortion
servers services machines
cancelled delayed dropped
money cash wallet
better finer nicer
hands fingers
day morning week
thing gadget toy
price level
low bottom
dip drop pullback
numbers figures results
worst ugliest
best finest
bags shares
portfolio account depot
week fortnight month
move swing jump
minutes seconds
calls options
target goal
bottom floor
position holding stake
leg wave
strange odd weird
street road
night evening
answer reply sign
sound noise roar
clinic practice surgery
school gym church
fridge freezer
"""
_OTHERS = {line.split()[0]: tuple(line.split()) for line in _LINES.strip().splitlines()}
_WORD = re.compile(r"(?<![#@$/\w])(?:" + "|".join(sorted(_OTHERS, key=len, reverse=True)) + r")(?![\w'-])")


def reword(text: str, dice: random.Random) -> str:
    """`text` with each lower-case word that has others replaced by one of them (itself among them)."""
    return _WORD.sub(lambda found: dice.choice(_OTHERS[found.group()]), text)
