"""What each task is: its labels, the data set it is trained and scored on, and how a row of it says the truth.

Label strings and their order are those of `ontology/label_map.csv`; rows are read as they lie in `shared/data/text`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from engines.base import HeadKind
from engines.errors import UnknownModel

Row = Mapping[str, object]
MetricName = Literal["macro_f1", "need_micro_f1", "average_recall", "accuracy", "pearson"]

NEED_LABELS = (
    "medical_help",
    "medical_products",
    "search_and_rescue",
    "security",
    "water",
    "food",
    "shelter",
    "clothing",
    "money",
    "missing_people",
    "transport",
    "electricity",
    "tools",
)
"""The labels of `disaster_message` that are need classes in `label_map.csv`."""


class TaskSpec(msgspec.Struct, frozen=True):
    """One task.

    Attributes:
        task: name as in `label_map.csv`.
        kind: labels exclude each other (`single`) or not (`multi`), or are values (`regression`).
        labels: label strings in logit order.
        data_set: folder below `shared/data/text`, or `shared/data/av` for faces and voices.
        field: the row's field that holds the label, the list of labels, or the mapping label -> 0/1/2 (2 = unsure);
            empty for `regression`, whose labels are the fields.
        metrics: the headline metric first.
        published: the figure others report, in words, with what it is and where it was read.
        lo, hi: range of a `regression` task's values.
        languages: ISO 639-1 codes of the languages its training rows are in.
    """

    task: str
    kind: HeadKind
    labels: tuple[str, ...]
    data_set: str
    field: str
    metrics: tuple[MetricName, ...]
    published: str
    lo: float = 0.0
    hi: float = 1.0
    languages: tuple[str, ...] = ("en",)

    def truth(self, row: Row) -> list[float] | None:
        """One value per label: 1 true, 0 false, -1 not known. None when the row has no label of this task.

        A row with several known labels of a `single` task cannot be; unknown label strings give None. A `regression`
        row gives its values; None where one is missing or outside [lo, hi].
        """
        if self.kind == "regression":
            values = [row.get(name) for name in self.labels]
            numbers = [float(v) for v in values if isinstance(v, int | float) and self.lo <= v <= self.hi]
            return numbers if len(numbers) == len(self.labels) else None
        value = row.get(self.field)
        if isinstance(value, Mapping):
            known = {1: 1.0, 0: 0.0}
            return [known.get(value[name], -1.0) if name in value else -1.0 for name in self.labels]
        names = value if isinstance(value, list) else [value]
        if not names or not all(name in self.labels for name in names):
            return None
        return [1.0 if name in names else 0.0 for name in self.labels]


TEXT_TASKS: tuple[TaskSpec, ...] = (
    TaskSpec(
        "goemotions28",
        "multi",
        (
            "admiration",
            "amusement",
            "anger",
            "annoyance",
            "approval",
            "caring",
            "confusion",
            "curiosity",
            "desire",
            "disappointment",
            "disapproval",
            "disgust",
            "embarrassment",
            "excitement",
            "fear",
            "gratitude",
            "grief",
            "joy",
            "love",
            "nervousness",
            "optimism",
            "pride",
            "realization",
            "relief",
            "remorse",
            "sadness",
            "surprise",
            "neutral",
        ),
        "goemotions",
        "labels",
        ("macro_f1",),
        "macro-F1 0.46, BERT-base, whole official test split (Demszky et al. 2020; as given in INDEX.md, from memory)",
    ),
    TaskSpec(
        "sentiment3",
        "single",
        ("positive", "neutral", "negative"),
        "semeval2017_task4a",
        "sentiment",
        ("average_recall", "macro_f1"),
        "average recall 0.681, best of the shared task, whole official test split (Rosenthal et al. 2017; from memory)",
    ),
    TaskSpec(
        "emtract7",
        "single",
        ("neutral", "happy", "sad", "anger", "disgust", "surprise", "fear"),
        "emtract_stocktwits",
        "emotion",
        ("macro_f1", "accuracy"),
        "accuracy 0.6453, macro-F1 0.4909, EmTract, 5-fold cross-validation on all 10k rows (Vamossy & Skog, paper.md)",
    ),
    TaskSpec(
        "bullbear3",
        "single",
        ("bullish", "neutral", "bearish"),
        "twitter_financial_news",
        "sentiment",
        ("macro_f1", "accuracy"),
        "none published; tf-idf + logistic regression on the same rows: accuracy 0.82, macro-F1 0.75 (INDEX.md)",
    ),
    TaskSpec(
        "disaster_message",
        "multi",
        (
            "related",
            "request",
            "offer",
            "aid_related",
            "medical_help",
            "medical_products",
            "search_and_rescue",
            "security",
            "military",
            "child_alone",
            "water",
            "food",
            "shelter",
            "clothing",
            "money",
            "missing_people",
            "refugees",
            "death",
            "other_aid",
            "infrastructure_related",
            "transport",
            "buildings",
            "electricity",
            "tools",
            "hospitals",
            "shops",
            "aid_centers",
            "other_infrastructure",
            "weather_related",
            "floods",
            "storm",
            "fire",
            "earthquake",
            "cold",
            "other_weather",
            "direct_report",
        ),
        "disaster_response_messages",
        "labels",
        ("need_micro_f1", "macro_f1"),
        "no headline figure; tf-idf + logistic regression on the same rows, six other categories: macro-F1 0.66,"
        " micro-F1 0.72 (INDEX.md)",
    ),
    TaskSpec(
        "crisis_info6",
        "single",
        (
            "Affected individuals",
            "Infrastructure and utilities",
            "Donations and volunteering",
            "Caution and advice",
            "Sympathy and support",
            "Other Useful Information",
        ),
        "crisislex_t26",
        "info_type",
        ("macro_f1", "accuracy"),
        "none published (the paper is a descriptive study, Olteanu et al. 2015)",
        languages=("en", "es", "fr", "it", "pt", "tl"),
    ),
    TaskSpec(
        "tweeteval_emotion4",
        "single",
        ("anger", "joy", "optimism", "sadness"),
        "tweeteval/emotion",
        "label",
        ("macro_f1", "accuracy"),
        "macro-F1 0.761 RoBERTa-base, 0.793 BERTweet, whole official test split (TweetEval README)",
    ),
    TaskSpec(
        "vad",
        "regression",
        ("V", "A", "D"),
        "emobank",
        "",
        ("pearson",),
        "Pearson r 0.84 / 0.57 / 0.54, RoBERTa-large, whole official test split (Park et al. 2021; from memory)",
        1.0,
        5.0,
    ),
    TaskSpec(
        "empathy_distress",
        "regression",
        ("empathy", "distress"),
        "empathic_reactions",
        "",
        ("pearson",),
        "Pearson r 0.404 / 0.444, CNN, 10-fold cross-validation on all rows (Buechel et al. 2018)",
        1.0,
        7.0,
    ),
)
"""The tasks of models that read text."""

MEDIA_TASKS: tuple[TaskSpec, ...] = (
    TaskSpec(
        "ferplus8",
        "single",
        ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt"),
        "fer2013plus",
        "",
        ("accuracy", "average_recall", "macro_f1"),
        "accuracy about 0.85, VGG13 with 8.8 M parameters, whole private test split (Barsoum et al. 2016; from memory)",
    ),
    TaskSpec(
        "ravdess8",
        "single",
        ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised"),
        "ravdess-speech",
        "emotion",
        ("average_recall", "accuracy", "macro_f1"),
        "listeners, voice alone: mean proportion correct about 0.60 (Livingstone & Russo 2018; from memory); classifier"
        " figures of 0.80 to 0.95 are on random splits that share speakers",
    ),
)
"""The tasks of models that read faces (`ferplus8`) and voices (`ravdess8`)."""


def task_spec(task: str) -> TaskSpec:
    """The task of that name.

    Raises:
        UnknownModel: no such task; the message lists what there is.
    """
    every = (*TEXT_TASKS, *MEDIA_TASKS)
    for spec in every:
        if spec.task == task:
            return spec
    raise UnknownModel(f"task {task!r} is not one of {', '.join(t.task for t in every)}")
