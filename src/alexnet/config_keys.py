"""The keys and groups of the config."""

PRESETS = ("experiment", "debug", "search", "study", "after")  # groups that only change what the other groups declare
GROUPS = (
    *("task", "model", "data", "augment", "mix", "loss", "optimizer", "scheduler"),
    *("metrics", "callbacks", "panels", "trainer", "logger"),
)
ROOT = {  # what the programs read of their own file, beside the groups
    "train": (
        *("seed", "init_from", "freeze", "lr_multipliers", "weight_decays", "study", "monitor", "mode", "headline"),
        *("test_epoch", "test_crops", "early_stopping", "compile", "channels_last", "keep_memory", "trusted"),
        *("outputs", "run_dir", "reproduce", "resume", "checkpoint_every", "print_config", "tags", "task_name"),
    ),
    "prepare": ("seed", "show", "stream", "jpeg", "outputs", "run_dir"),
}
# Of several types: a number, a list or auto; true, false or warn; a column or a list of them.
FREE = ("trainer.devices", "trainer.deterministic", "data.source.label")
NAMED = ("metrics.", "callbacks.", "logger.")  # groups of objects under names that the user chooses
