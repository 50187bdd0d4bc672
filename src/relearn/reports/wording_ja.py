"""The decision as one paragraph in Japanese for managers, from the same fields as the English."""

from __future__ import annotations

from typing import TYPE_CHECKING

from relearn.reports.wording import scale_of

if TYPE_CHECKING:
    from relearn.reports.comparison import Comparison
    from relearn.reports.decision import Decision

_HEADS = {
    "adopt": "採用を推奨します。",
    "hold": "判断保留(当面は現行方式を継続)。",
    "no benefit": "効果なし(現行方式を継続)。",
    "harmful": "悪化(現行方式を継続)。",
    "not run": "未実施。",
    "not measured": "本データでは未測定。",
}

_REASONS = {
    "gain": "差の区間はゼロを含まず、平均差は事前に定めた基準に達しました。",
    "pilot": "区間はゼロを含みませんが、シード数が足りない予備試験です。",
    "holm": "複数比較の補正(Holm)を行うと、偶然の可能性を否定できません。",
    "cost": "学習時間が事前に定めた上限を超えました。",
    "cost unknown": "費用が測定されていません。",
    "sham": "偽処置(同じ手間で肝心の操作を行わない条件)と区別できません。",
    "sham unknown": "事前に定めた偽処置の結果が不足しています。",
    "small": "差は事前に定めた最小差に届いたとは言えません。",
    "inconclusive": "区間がゼロを含み、改善とも悪化とも言えません。",
    "one pair": "1組のみのため区間を計算できません。",
    "no spread": "全ての組で差が同一であり、シードの確認が必要です。",
    "no change": "全ての組で値が同じでした。",
    "same": "差は事前に定めた同等性の範囲内です。",
    "loss": "区間全体が悪化側にあります。",
}


def words_ja(decision: Decision) -> str:
    """Return the decision in Japanese.

    Args:
        decision: As from ``decide``.
    """
    parts = [f"{decision.method}: {_HEADS[decision.verdict]}"]
    if decision.verdict not in ("not run", "not measured"):
        parts.append(_facts(decision.headline))
    parts += [_REASONS[code] for code in decision.reasons if code in _REASONS]
    if decision.more_seeds is not None:
        parts.append(f"結論には、あと約{decision.more_seeds}組のシードが必要な見込みです。")
    if decision.headline.pilot and "pilot" not in decision.reasons and decision.headline.seeds:
        parts.append("シード数の少ない予備試験です。")
    return "".join(parts)


def _facts(headline: Comparison) -> str:
    scale, found = scale_of(headline.question.metric), headline.difference
    if found is None:
        return ""
    unit = "ポイント" if scale.points else ""
    text = f"対応する{len(headline.seeds)}組のシードで、平均差は{scale.signed(found.mean)}{unit}"
    if found.low is None or found.high is None:
        return f"{text}。"
    ends = f"{scale.signed(found.low)}〜{scale.signed(found.high)}"
    return f"{text}({100 * headline.question.confidence:g}%区間 {ends})。"
