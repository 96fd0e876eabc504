"""Where the training rows come from and under which licence, as the mirrors state it."""

from __future__ import annotations

from collections.abc import Sequence

from engines.artefacts import DataSource
from engines.training.data import TaskData

LICENCES = {
    "goemotions": "Apache-2.0 (mirror repository licence); the data carry CC BY 4.0 in the original",
    "semeval2017_task4a": "MIT (mirror repository licence); data terms of the task: not stated",
    "emtract_stocktwits": "MIT (repository licence)",
    "twitter_financial_news": "mirror: not stated; the original's data set card"
    " (zeroshot/twitter-financial-news-sentiment): MIT",
    "disaster_response_messages": "CC BY 4.0 (rmunro repository); the mirror of the training rows states none",
    "crisislex_t26": "MIT (repository licence)",
    "tweeteval/emotion": 'README: "released without any restrictions but restrictions may apply to individual tasks'
    ' ... or Twitter"',
    "emobank": "CC BY-SA 4.0 (README)",
    "empathic_reactions": "CC BY 4.0 (README)",
}
SOURCES = {
    "goemotions": "monologg/GoEmotions-pytorch@b75f9d3a (a mirror of google-research); Demszky et al. 2020",
    "semeval2017_task4a": "cbaziotis/ntua-slp-semeval2018@291038d0; Rosenthal et al. 2017",
    "emtract_stocktwits": "dvamossy/EmTract@4212881c; Vamossy & Skog",
    "twitter_financial_news": "umaima-aman/Twee_Sentiment_Analysis-DeepLearning@0286b19b; data set card only",
    "disaster_response_messages": "rmunro/disaster_response_messages@1657e1c4 (dev, test),"
    " ok-udacity/disaster_response_pipeline@b8eb636b (training rows); Munro 2012",
    "crisislex_t26": "sajao/CrisisLex@d67cddd5; Olteanu et al. 2015",
    "tweeteval/emotion": "cardiffnlp/tweeteval@4fbd22cd; Barbieri et al. 2020, from Mohammad et al. 2018",
    "emobank": "JULIELab/EmoBank@248ce2a4; Buechel & Hahn 2017",
    "empathic_reactions": "wwbp/empathic_reactions@3ddbf6b3; Buechel et al. 2018",
}


def sources(data: Sequence[TaskData]) -> tuple[DataSource, ...]:
    """One line per data set, as the manifest keeps it."""
    return tuple(
        DataSource(d.spec.data_set, LICENCES[d.spec.data_set], SOURCES[d.spec.data_set], len(d.train.texts), d.dropped)
        for d in data
    )
