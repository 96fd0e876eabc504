"""What a run declares about itself, and whether it may start: the policy gate put to the settings."""

from __future__ import annotations

from typing import Final

import msgspec

from engines.artefacts import Manifest
from operators.errors import PolicyRefused
from operators.policy import Declaration, Verdict, biometric, decide
from stream.config import Config

OWN: Final = {
    "market": Declaration(setting="market", modalities=("text",), purpose="market-analysis", unit="stream"),
    "crisis": Declaration(setting="public-crisis", modalities=("text",), purpose="crisis-response", unit="stream"),
    "social": Declaration(setting="other", modalities=("text",), purpose="opinion", unit="stream"),
    "classroom": Declaration(
        setting="education", modalities=("text", "participation"), purpose="teaching", unit="group"
    ),
}
"""What a run of each domain is where it declares nothing: it reads texts and what people press, and looks at nobody."""


def declaration(config: Config) -> Declaration:
    """What the settings declare; that of the domain where they declare nothing at all.

    Half a declaration is not filled up: whoever says one thing says all of them.
    """
    policy, own = config.policy, OWN[config.domain]
    said = (policy.setting, policy.modalities, policy.purpose, policy.unit, policy.controller, policy.document)
    kept = config.capture.mode == "topics"
    if not any(said):
        return msgspec.structs.replace(own, jurisdiction=policy.jurisdiction, kept=kept)
    setting, modalities, purpose, unit, controller, document = said
    return Declaration(
        jurisdiction=policy.jurisdiction,
        setting=setting,
        modalities=modalities,
        purpose=purpose,
        unit=unit,
        controller=controller,
        document=document,
        kept=kept,
    )


def judge(config: Config) -> Verdict:
    """The gate's verdict on the settings. A domain may not use what its deployment does not declare."""
    said = declaration(config)
    verdict = decide(said)
    needed = set(OWN[config.domain].modalities) - set(said.modalities)
    if verdict.allowed and needed:
        missing = " and ".join(sorted(needed))
        return Verdict("incomplete", f"[policy] modalities: domain {config.domain!r} uses {missing}; declare it")
    if verdict.allowed and biometric(said.modalities) and not config.policy.audit:
        return Verdict("incomplete", "[policy] audit: expected a file, as faces or voices are looked at; got none")
    if verdict.allowed and config.capture.bind and not biometric(said.modalities):
        return Verdict("incomplete", "[policy] modalities: capture.bind lets cameras in; declare face or voice")
    return verdict


def permit(config: Config) -> Verdict:
    """The verdict, where it lets the run start.

    Raises:
        PolicyRefused: it does not; exit code 78.
    """
    verdict = judge(config)
    if not verdict.allowed:
        raise PolicyRefused(f"refused to start: {verdict.message}")
    return verdict


def license_weights(manifest: Manifest, config: Config) -> None:
    """Let weights in whose licence the deployment keeps.

    Raises:
        PolicyRefused: they were trained on data for research alone, and the settings do not say that this is research.
    """
    if manifest.research_only and not config.policy.research:
        licences = "; ".join(f"{d.name}: {d.licence}" for d in manifest.data)
        raise PolicyRefused(
            f"model {manifest.name!r} may be used for research only ({licences}); set [policy] research = true if this "
            "is research, or take another model"
        )


def gate_facts(config: Config, verdict: Verdict) -> dict[str, str | int | bool]:
    """What the audit log keeps of a decision."""
    said = declaration(config)
    return {
        "domain": config.domain,
        "outcome": verdict.outcome,
        "message": verdict.message,
        "jurisdiction": said.jurisdiction,
        "setting": said.setting,
        "modalities": "+".join(said.modalities),
        "purpose": said.purpose,
        "unit": said.unit,
        "controller": said.controller,
        "document": said.document,
        "research": config.policy.research,
        "frames": config.capture.mode,
    }
