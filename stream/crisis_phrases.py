"""What people say in the hurricane of the scenarios; see `phrases`."""

from __future__ import annotations

from stream.phrases import ANGRY, GLAD, SAD, SCARED, Mood, lines

_NEEDS = {
    "water": (
        "no clean water in {e} since {hour}, we need drinking water",
        "please send bottled water to {street} in {e}, the kids are thirsty",
        "{e} ran out of water, the wells are flooded, we need help",
        "does anyone know where to find drinking water in {e}? we have none left",
        "water pipes broke in {e}, {n} families need clean water",
        "our baby needs clean water, we are near {street} in {e}",
    ),
    "food": (
        "we have had no food for two days in {e}, please help",
        "{n} people hungry in the school in {e}, we need food",
        "shelves are empty in {e}, we need food and baby formula",
        "please bring food to {street} in {e}, old people are starving",
        "nothing to eat left in {e}, children are crying from hunger",
        "looking for a hot meal in {e}, we lost everything in the kitchen",
    ),
    "shelter": (
        "our roof is gone in {e}, we need shelter tonight",
        "{n} families without a home in {e}, we need tents and a place to sleep",
        "house flooded on {street} in {e}, where is an open shelter?",
        "shelter in {e} is full, we need another place to stay",
        "sleeping in the car in {e}, need shelter for my mother and two kids",
        "tents and blankets needed in {e}, people sleep in the open",
    ),
    "medical_help": (
        "my father is injured in {e}, we need a doctor now",
        "need medical help on {street} in {e}, woman in labour",
        "hospital in {e} is overwhelmed, we need nurses and an ambulance",
        "{n} people hurt in {e}, please send medical help",
        "grandmother needs dialysis in {e}, the clinic is closed, please help",
        "many sick children in {e}, we need doctors urgently",
    ),
    "electricity": (
        "power is out in {e} since {hour}, we need electricity for an oxygen machine",
        "no electricity in all of {e}, phones are dead",
        "need a generator on {street} in {e}, no power for two days",
        "power lines down across {e}, {n} homes in the dark",
        "when will the power be back in {e}? everything in the fridge is spoiled",
    ),
    "search_and_rescue": (
        "trapped on the roof at {street} in {e}, please rescue us, water is rising",
        "{n} people stuck under the roof in {e}, send a boat",
        "my brother is missing in {e}, please help to search for him",
        "we need rescue in {e}, the road is under water and we cannot get out",
        "people trapped under a collapsed house on {street} in {e}, send rescue teams",
        "SOS {e}, car swept away with people inside, rescue needed now",
    ),
}
_OFFERS = {
    "water": (
        "we have {n} cases of bottled water to give away in {e}",
        "free drinking water at {street} in {e} until dark",
    ),
    "food": ("free hot meals at the church in {e}, come and eat", "we can deliver food in {e}, write to us"),
    "shelter": ("our shelter in {e} is open and has {n} beds free", "I can take in a family in {e}, dry and safe"),
    "medical_help": ("nurse here, I can treat injured people in {e}", "free clinic open on {street} in {e} today"),
    "electricity": ("charge your phone for free at {street} in {e}", "I have a spare generator to lend in {e}"),
    "search_and_rescue": (
        "we have a boat and can rescue people in {e}",
        "volunteer rescue team heading to {e}, tell us where",
    ),
}
NEEDS = tuple(_NEEDS)

CRISIS: dict[str, Mood] = {
    **{
        f"request.{need}": Mood(
            (f"need.{need}", "message.request"),
            cores,
            ("urgent:", "please help,", "HELP!", "anyone?", "please share:"),
            ("please help us", "we are desperate", "please retweet", "God help us", "thank you"),
        )
        for need, cores in _NEEDS.items()
    },
    **{
        f"offer.{need}": Mood(
            (f"need.{need}", "message.offer"),
            cores,
            ("neighbours,", "good news:", "please share:"),
            ("stay safe", "we are here for you", "just call", "spread the word"),
        )
        for need, cores in _OFFERS.items()
    },
    "fear": Mood(
        ("fear",),
        lines(
            """
            the wind in {e} is terrifying, the whole house shakes
            I'm so scared, the storm is right over {e}
            praying that {e} survives this night, I'm afraid
            water is rising fast in {e} and I'm panicking
            worried sick about my parents in {e}, no answer for hours
            the sound of this hurricane over {e} is pure horror
            never been so frightened in my life, {e} is going under
            nervous about tonight, the storm turns towards {e}
            """
        ),
        ("oh no,", "please,", "my god,"),
        SCARED,
    ),
    "sadness": Mood(
        ("sadness",),
        lines(
            """
            heartbroken to see {e} like this, everything is gone
            we lost our home in {e}, I can't stop crying
            so sad for the people of {e}
            three neighbours died in {e}, no words for this grief
            my home town {e} is destroyed, I feel empty
            {e} will never be the same, what a sorrow
            """
        ),
        (),
        SAD,
    ),
    "anger": Mood(
        ("anger",),
        lines(
            """
            where is the help for {e}? the government does nothing, disgraceful
            the power company left {e} in the dark, I'm furious
            people loot stores in {e}, disgusting
            angry that {e} was warned so late, somebody must answer for this
            officials smile on TV while {e} drowns, shame on them
            gas in {e} costs {n} dollars now, filthy price gouging
            """
        ),
        ("seriously,", "unbelievable,"),
        ANGRY,
    ),
    "relief": Mood(
        ("joy",),
        lines(
            """
            so thankful, our whole family in {e} is safe
            relieved, the storm has passed {e} and we are alive
            power is back in {e}, so happy!
            the volunteers in {e} are heroes, thank you so much
            proud of {e}, neighbours help each other everywhere
            great news, my sister was found safe in {e}
            sun is out over {e}, we will rebuild, full of hope
            """
        ),
        ("finally!", "thank God,", "good news,"),
        GLAD,
    ),
    "news": Mood(
        (),
        lines(
            """
            the storm moves north at {n} mph, landfall near {e} at {hour}
            weather service issues a warning for {e} until {hour}
            bridge on {street} in {e} closed to traffic
            schools in {e} remain closed on Monday
            press conference on the storm in {e} at {hour}
            {n} inches of rain so far in {e}
            """
        ),
        ("update:", "official:"),
    ),
}

STREETS = (
    "Oak Street",
    "Main Street",
    "Cedar Lane",
    "River Road",
    "Mill Street",
    "Church Street",
    "Elm Avenue",
    "2nd Street",
)
