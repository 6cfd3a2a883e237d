"""A comparison of defences, end to end: arms are trained and attacked, and what each buys is held against its cost."""

from gmi.audits import Hardware, Kind
from gmi.comparison.findings import findings
from gmi.comparison.forecast import forecast
from gmi.comparison.inputs import Inputs, load, refuse
from gmi.comparison.page import render
from gmi.comparison.plan import Comparison
from gmi.comparison.trials import Evidence, Trials
from gmi.run import Run


def examine(plan: Comparison, inputs: Inputs, run: Run, hardware: Hardware) -> Evidence:
    """Trains every arm, attacks it and judges the images."""
    return Trials(plan, inputs, run, hardware).run()


COMPARISON = Kind(
    name="comparison",
    plan=Comparison,
    load=load,
    refuse=refuse,
    forecast=forecast,
    searches=True,
    examine=examine,
    findings=findings,
    render=render,
)
