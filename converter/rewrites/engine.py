"""Apply rules to a model: match, check, replace, prove, rebuild. Only this module decides which rules are applied."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from converter.core.data import Array, Rewritten, RuleResult
from converter.core.errors import UsageError
from converter.core.foreign import KerasLayer, KerasModel, Site, TensorTree
from converter.rewrites.equivalence import Proof, distance, gate_for, in_float64, prove, run
from converter.rewrites.graph import Graph, Notes, call_errors, evaluate, is_functional, why_opaque
from converter.rewrites.rebuild import rebuild
from converter.rewrites.rule import Context, Groups, Replacement, Rule

PASSES = 16  # a rule that still finds something to do after so many passes has a bug


class Rewriter:
    """One run of some rules over a model and the models nested in it; collects results and warnings."""

    def __init__(self, rules: Sequence[Rule[Site]], context: Context) -> None:
        self.rules = rules
        self.context = context
        self.results: list[RuleResult] = []
        self.made: dict[str, list[Replacement]] = {rule.name: [] for rule in rules}
        self._nested: dict[int, KerasModel] = {}

    def rewrite(self, model: KerasModel, path: str = "") -> KerasModel:
        """`model` with every proven replacement made, or `model` itself where there was none."""
        reason = why_opaque(model)
        if reason:
            where = path.rstrip("/") or model.name
            self.results.append(RuleResult("rewrite", where, False, f"not rewritten: {reason}"))
            return model
        model = self._with_nested(model, path)
        notes = Notes()
        for rule in self.rules:
            rewritten = self._until_done(rule, model, path, notes)
            notes = notes if rewritten is model else Notes()
            model = rewritten
        return model

    def _with_nested(self, model: KerasModel, path: str) -> KerasModel:
        """`model` with its nested models rewritten; one that is called twice is rewritten once."""
        import keras

        graph = Graph(model, path)
        changed: dict[int, KerasModel] = {}
        for node in graph.nodes:
            inner = node.operation
            if not isinstance(inner, keras.Model):
                continue
            if id(inner) not in self._nested:
                self._nested[id(inner)] = self.rewrite(inner, f"{path}{inner.name}/")
            if self._nested[id(inner)] is not inner:
                changed[id(inner)] = self._nested[id(inner)]
        return rebuild(graph, (), changed) if changed else model

    def _until_done(self, rule: Rule[Site], model: KerasModel, path: str, notes: Notes) -> KerasModel:
        """Pass after pass of one rule, since one replacement may make another possible."""
        for _ in range(PASSES):
            graph = Graph(model, path, notes)
            made, declined = self._one_pass(rule, graph)
            if not made:
                self.results.extend(declined)
                return model
            self.made[rule.name].extend(made)
            self.results.extend(RuleResult(rule.name, f"{path}{item.name}", True, item.note) for item in made)
            model, notes = rebuild(graph, made, {}), Notes()
        raise RuntimeError(f"the rule {rule.name} does not come to an end in {path}{model.name}")

    def _one_pass(self, rule: Rule[Site], graph: Graph) -> tuple[list[Replacement], list[RuleResult]]:
        """The proven replacements of one rule that do not overlap, and what was declined or undone."""
        made: list[Replacement] = []
        declined: list[RuleResult] = []
        gone: set[int] = set()
        for site in rule.match(graph):
            where = f"{graph.path}{rule.where(site)}"
            reason = rule.check(graph, site, self.context)
            if reason:
                declined.append(RuleResult(rule.name, where, False, reason))
                continue
            replacement = rule.replace(graph, site, self.context)
            if gone & {id(node) for node in replacement.nodes}:
                continue
            proof = prove(graph, replacement, self.context.seed)
            if not proof.passed:
                declined.append(RuleResult(rule.name, where, False, f"undone: {proof.reason}"))
                continue
            gone |= {id(node) for node in replacement.nodes}
            made.append(replacement)
        return made, declined


def rewrite(
    model: KerasModel,
    *,
    groups: Groups = "preserve",
    inputs: TensorTree = None,
    rules: Sequence[Rule[Site]] = (),
    seed: int = 0,
) -> Rewritten:
    """`model` after `rules`, every replacement proven on seeded inputs; the same object where none applied.

    The result is a plain functional model, not compiled, that shares all unchanged layers and their weights with
    `model`, which keeps working. `groups` decides about branches that all read the same slice: "preserve" keeps what
    the model computes, "as-written" builds what its source describes. With `inputs` (as the model takes them, batch
    first) the whole models are also compared, and all replacements are undone where they differ, unless the function
    was changed on purpose.

    Raises UsageError for any other `groups`.
    """
    if groups not in ("preserve", "as-written"):
        raise UsageError(f"--groups {groups}: choose preserve or as-written")
    rewriter = Rewriter(rules, Context(groups, seed))
    new = rewriter.rewrite(model)
    results = tuple(rewriter.results)
    changed_on_purpose = any(item.meant is not None for made in rewriter.made.values() for item in made)
    if inputs is not None and new is not model and not changed_on_purpose:
        proof = prove_whole(model, new, inputs)
        if not proof.passed:
            reason = f"undone with all others: over the whole model the {proof.reason}"
            return Rewritten(
                model, tuple(replace(item, applied=False, reason=reason) if item.applied else item for item in results)
            )
    warnings = [
        rule.warn(rewriter.made[rule.name], rewriter.context)
        for rule in rules
        if rule.warn and rewriter.made[rule.name]
    ]
    return Rewritten(new, results, tuple(text for text in warnings if text), changed_on_purpose)


def prove_whole(model: KerasModel, new: KerasModel, inputs: TensorTree) -> Proof:
    """Compare all outputs of two models on the same inputs; the noise is the distance of `model` from its float64."""
    from keras import tree

    layers = [*_all_layers(model), *_all_layers(new)]
    flat = [np.asarray(value) for value in tree.flatten(inputs)]

    def called(of: KerasModel) -> list[Array]:
        return run(lambda *values: of(tree.pack_sequence_as(inputs, list(values)), training=False), flat, layers)

    before, after = called(model), called(new)
    graph = Graph(model)
    try:
        feeds = tree.flatten(inputs)
        exact = run(
            lambda *values: evaluate(
                graph, {id(t): v for t, v in zip(graph.inputs, values, strict=True)}, graph.outputs, in_float64
            ),
            [np.asarray(value, np.float64) for value in feeds],
            layers,
        )
    except call_errors():
        return Proof(distance(after, before), None, gate=gate_for(layers))
    return Proof(distance(after, before), distance(before, exact), gate=gate_for(layers))


def _all_layers(model: KerasModel) -> list[KerasLayer]:
    """The layers of a model and of the models nested in it."""
    found: list[KerasLayer] = []
    for layer in model.layers:
        found.extend(_all_layers(layer) if is_functional(layer) else [layer])
    return found
