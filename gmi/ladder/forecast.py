"""The queries and the time of a ladder, before anything is spent."""

from gmi.audits import Hardware
from gmi.forecast import Forecast
from gmi.inversion.attacker import PROBES
from gmi.inversion.forecast import attack_work, judging_seconds, pace, served_note, target_notes
from gmi.inversion.inputs import Inputs
from gmi.ladder.plan import Ladder, costs
from gmi.oracles.access import ScoresOnly, claims
from gmi.oracles.interface import Interface
from gmi.oracles.ledger import OWN_OPINION
from gmi.search.signature import refuse_misfit, students
from gmi.targets.served import Served


def refuse_misfits(plan: Ladder, inputs: Inputs) -> None:
    """Raises GmiError where the target does not give a rung's access, or a search does not fit it or the prior."""
    for _, rung, search in plan.attacks():
        refuse_misfit(search, rung.access.open(inputs.target, None), inputs.prior)
    ScoresOnly().open(inputs.target, None)  # the control's access


def forecast(plan: Ladder, inputs: Inputs, hardware: Hardware) -> Forecast:
    """The queries and seconds of every point of a ladder that is not refused."""
    people, prior, selection = inputs.people, inputs.prior, plan.audit.selection
    attacked = len(people.attacked)
    tempo = pace(inputs.target, prior, people, hardware.device)
    prices = costs(plan, prior, len(people.names))
    labels = {
        step: f"{step} {cost.rung}, {cost.search}" if cost.search != "none" else step for step, cost in prices.items()
    }
    seeds = len(plan.audit.seeds)
    queries = {labels[step]: seeds * cost.queries(attacked) for step, cost in prices.items()}
    seconds = {}
    for step, _, search in plan.attacks():
        work = attack_work(search, selection, attacked, prior)
        seconds[labels[step]] = seeds * sum(tempo.each(work, plan.audit.attack.shares(attacked)).values())
    starts = attacked * selection.candidates
    for step, size in plan.controls():
        evaluations = (size + starts) * prior.evaluations
        seconds[labels[step]] = seeds * tempo.seconds((0, 2 * size + starts * selection.final_views, evaluations))
    released = seeds * (len(prices) + 1) * attacked * selection.keep
    judge = inputs.judges.faces[0]
    seconds |= judging_seconds({f"judge {judge.name}": judge}, people, released)
    interfaces = [rung for rung in plan.rungs if isinstance(rung.access.open(inputs.target, None), Interface)]
    if interfaces:
        queries["checks"] = sum(2 * PROBES * claims(rung.access, len(people.names)) for rung in interfaces)
    if isinstance(inputs.target, Served):
        queries[OWN_OPINION] = len(people.enrolment) + released
        seconds[OWN_OPINION] = tempo.seconds((0, queries[OWN_OPINION], 0))
    without = served_note(tempo.forward)
    if any(students(search) for _, _, search in plan.attacks()):
        without += ("to teach students and to search them",)
    notes = [
        f"{step}: {cost.common_queries:,} queries for everybody, {cost.person_queries:,} for each of {attacked} people"
        for step, cost in prices.items()
    ]
    if seeds > 1:
        notes.append(f"Each point is made with {seeds} seeds: the table has all of them, these notes one.")
    notes.append("Points by one access share what they ask alike: their ledger may hold fewer queries than the total.")
    if plan.budget is not None:
        notes.append(f"No point may ask more than {plan.budget:,} queries{' with one seed' * (seeds > 1)}.")
    return Forecast(queries, seconds, without, (*notes, *target_notes(plan.audit)), read=str(people))
