"""What methods, arms, protocols and metrics are called before a reader who has not met them."""

from __future__ import annotations

TITLES = {
    "zap": "Reset the last layer again and again while pre-training",
    "forget_relearn": "Forget some weights on purpose, then relearn",
    "grow": "Grow a trained net and go on training",
    "lora_ipc": "Add small adapters for new tasks, keep the old ones",
    "last_layer_probe": "Ask how much the last layer alone can do",
}
"""What each method does, for a reader who has not met its name."""

ARMS = {
    "iid": "plain pre-training",
    "iid_zap": "plain pre-training with resets",
    "asb": "alternating pre-training",
    "asb_zap": "alternating pre-training with resets",
    "meta": "meta-learning",
    "meta_zap": "meta-learning with resets",
    "iid_shrink_perturb": "every weight shrunk and perturbed",
    "iid_moments": "optimizer memory cleared, weights kept",
    "pgd_at": "adversarial training to its end",
    "pgd_at_stopped": "adversarial training, best on validation",
    "pgd_at_ema": "moving average of adversarial training",
    "pgd_at_ema_stopped": "moving average, best on validation",
    "awp": "adversarial training with perturbed weights",
    "awp_stopped": "the same with perturbed weights, best on validation",
    "share_zero": "the whole cycle, nothing forgotten",
    "forget_relearn": "late weights forgotten and relearnt, stable model",
    "forget_relearn_student": "late weights forgotten and relearnt, the net in training",
    "forget_relearn_stopped": "late weights forgotten and relearnt, best on validation",
    "forget_early": "early weights forgotten and relearnt",
    "forget_only": "weights forgotten, no stable model, no consistency",
    "stable_only": "stable model alone, nothing forgotten",
    "forget_stable": "weights forgotten, stable model, no consistency",
    "grown": "the teacher grown and trained on",
    "scratch": "a fresh net of the grown size, as many steps",
    "scratch_total": "a fresh net of the grown size, as much computation in all",
    "random_pad": "the teacher's weights in the corner, the rest drawn",
    "random_layers": "new layers drawn",
    "teacher_continued": "the small net trained on, as much computation",
    "distilled": "a fresh net of the grown size, taught by the small one",
    "raw_ncm": "nearest class mean of pixels",
    "ncm": "nearest class mean of the frozen backbone",
    "ranpac": "ridge on random features of the frozen backbone",
    "sequential_full": "the whole net, task after task",
    "ewc": "the whole net, held to important weights",
    "lwf": "the whole net, held to its earlier answers",
    "shared_lora": "one module that all tasks train on",
    "joint": "all classes at once, one module",
    "joint_full": "all classes at once, the whole net",
    "lorac": "a module each task, nothing frozen",
    "lorac_ipc": "a module each task, important matrices frozen",
    "lorac_ipc_random": "a module each task, matrices frozen at random",
    "lorac_ipc_sequential": "a module each task, matrices frozen layer by layer",
    "majority": "the most frequent class",
    "linear": "a linear classifier on pixels",
    "frozen": "the base net frozen, a new last layer",
    "unfrozen": "the base net's last blocks trained on",
    "full": "a net of that architecture from scratch",
    "fine_tuned": "the base net trained on as a whole",
    "noise_body": "features of pure noise",
}
"""What an arm is, for the same reader; an arm that is not here stands for itself."""

PROTOCOLS = {
    "few_shot": "few-shot transfer to unseen classes",
    "continual": "learning unseen classes one after another",
    "ridge": "unseen classes with a closed-form last layer",
    "pretrain": "pre-training",
    "test": "test images",
    "auto_attack": "AutoAttack or its reduced version",
    "square": "Square, which sees outputs only",
    "transfer": "images attacked against another net",
    "corruption": "corrupted images",
}
"""What a task of the records stands for."""

METRICS = {
    ("test", "robust_accuracy"): "robust accuracy (PGD)",
    ("validation", "robust_accuracy"): "robust accuracy (PGD, validation images)",
}
"""Task and metric whose name would not say enough otherwise."""


def metric_title(task: str, metric: str) -> str:
    """Return the name of a metric as a reader would say it.

    Args:
        task: As in ``Record.task``.
        metric: As in ``Record.metric``.
    """
    if (task, metric) in METRICS:
        return METRICS[task, metric]
    return f"{metric.replace('_', ' ')} ({PROTOCOLS.get(task, task.replace('_', ' '))})"


def arm_title(arm: str) -> str:
    """Return the arm's name with what it is, where that is known."""
    return f"{arm} ({ARMS[arm]})" if arm in ARMS else arm
