"""The command that trains the target of an audit."""

from collections.abc import Sequence

from gmi import cli
from gmi.cli.options import flags_of
from gmi.errors import GmiError
from gmi.inversion.plan import Audit
from gmi.processes import wait
from gmi.targets.module import ModuleTarget
from gmi.training.weights import train


def main(arguments: Sequence[str]) -> None:
    """Trains the target, unless its weights are there, and prints how good it is."""
    options, plan = cli.configured(flags_of("train-target"), arguments, Audit)
    target, training = plan.target, plan.training
    if training is None or not isinstance(target, ModuleTarget) or target.weights is None:
        raise GmiError("The configuration has no training block and target.weights: there is nothing to train.")
    engine = cli.accelerator()
    if engine.is_main_process:
        overwrite = options.defence is None  # the configuration's own target is not replaced by a hardened one
        record = train(target, training, plan.data.load(), engine.device, overwrite)
        print(
            f"{target.weights}: accuracy {record.training_accuracy:.3f} on training, "
            f"{record.enrolment_accuracy:.3f} on enrolment images"
        )
        if target.defence is not None and target.defence.changes is not None:
            print(f"{target.defence.changes}: the weights fit a configuration with the same target.defence only")
        if record.promise is not None:
            print(record.promise)
    wait()
