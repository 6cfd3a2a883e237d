"""The queries and the time of a watch on trial, before anything is spent."""

from gmi.audits import Hardware
from gmi.forecast import Forecast
from gmi.inversion.forecast import attack_work, pace, target_notes
from gmi.inversion.inputs import Inputs
from gmi.ladder.plan import costs
from gmi.search.signature import students
from gmi.watching.findings import CAMERA, ROUNDS, STRANGERS
from gmi.watching.plan import Watching
from gmi.watching.traffic import strangers


def forecast(plan: Watching, inputs: Inputs, hardware: Hardware) -> Forecast:
    """The queries and seconds of every attack that asks, and of the controls."""
    people, prior, seeds = inputs.people, inputs.prior, len(plan.audit.seeds)
    tempo = pace(inputs.target, prior, people, hardware.device)
    prices = costs(plan, prior, len(people.names))
    others = strangers(people)
    queries = {CAMERA: ROUNDS * len(people.enrolment)} | ({} if others is None else {STRANGERS: ROUNDS * len(others)})
    seconds = {control: tempo.seconds((0, photographs, 0)) for control, photographs in queries.items()}
    for step, rung, search in plan.asking():
        label, work = f"{step} {rung.name}", attack_work(search, plan.audit.selection, len(people.attacked), prior)
        queries[label] = seeds * prices[step].queries(len(people.attacked))
        seconds[label] = seeds * sum(tempo.each(work, plan.audit.attack.shares(len(people.attacked))).values())
    learnt = any(students(search) for _, _, search in plan.asking())
    without = ("to teach students and to search them",) if learnt else ()
    return Forecast(queries, seconds, without, target_notes(plan.audit), read=str(people))
