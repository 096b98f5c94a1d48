"""Every refusal of a sweep file, with the one line that a user sees."""

from __future__ import annotations

from pathlib import Path

import pytest

from duchenne.spec import SpecError, load_sweep, load_sweep_text

HEAD = """\
apiVersion: duchenne/v1
kind: Sweep
metadata: {name: a}
data: {uri: builtin://yeast}
budget: {wall_seconds: 60}
"""
MODELS = "vmnc, vmns, mrnn, monet, mttc, mtts, monet_mtts"
COMPARATORS = f"{MODELS}, logistic_regression, classifier_chain, chain_ensemble"
MODEL_FIELDS = (
    "name, encoder, attention, labels, quantisation, hidden_size, head_layers, orders, trajectories, "
    "trajectories_per_order, inference, bias_initialisation, guidance"
)
KINDS = "must have exactly one of choice, grid, uniform, loguniform, randint, orders, smoothing"
SLUG = "must be lower-case letters, digits and hyphens, with a letter or digit at both ends"


def refusal(text: str) -> list[str]:
    """The error's lines without the file's name; fails if the text is accepted."""
    with pytest.raises(SpecError) as caught:
        load_sweep_text(text, "S.yaml")
    lines = str(caught.value).splitlines()
    assert all(line.startswith("S.yaml:") for line in lines)
    return [line.removeprefix("S.yaml:") for line in lines]


def searching(space: str, rest: str = "trials: 2") -> str:
    """A search section; its space is on line 6."""
    return f"search: {{space: {{{space}}}, {rest}}}"


# Added below HEAD: the first added line is line 6.
ADDED = {
    "unknown field, typo": (
        "training: {epocs: 3}",
        "6: training.epocs: unknown field, got epocs, did you mean `epochs`?",
    ),
    "unknown field, no idea": (
        "model: {xyz: 3}",
        f"6: model.xyz: unknown field, got xyz, known fields here: {MODEL_FIELDS}",
    ),
    "unknown section": ("serch: {}", "6: serch: unknown field, got serch, did you mean `search`?"),
    "unknown field of a scheduler": (
        "search:\n  scheduler: {name: asha, grace_epoch: 1}",
        "7: search.scheduler.grace_epoch: unknown field, got grace_epoch, did you mean `grace_epochs`?",
    ),
    "field of another scheduler": (
        "search: {scheduler: {name: fifo, grace_epochs: 1}}",
        "6: search.scheduler.grace_epochs: unknown field, got grace_epochs, known fields here: name",
    ),
    "unknown field of a dimension": (
        searching("training.epochs: {choice: [2], weights: [1]}"),
        "6: search.space.training.epochs.weights: unknown field, got weights, known fields here: choice",
    ),
    "below the least": ("training: {epochs: 0}", "6: training.epochs: must be >= 1, got 0, raise it"),
    "above the greatest": ("model: {head_layers: 17}", "6: model.head_layers: must be <= 16, got 17, lower it"),
    "not above a bound": (
        "training: {learning_rate: 0}",
        "6: training.learning_rate: must be > 0, got 0, raise it",
    ),
    "not below a bound": (
        "model: {encoder: {dropout: 1}}",
        "6: model.encoder.dropout: must be < 1, got 1, lower it",
    ),
    "fraction for a whole number": (
        "training: {epochs: 2.5}",
        "6: training.epochs: must be a whole number, got 2.5, write digits only, without quotes",
    ),
    "text for a whole number": (
        "training: {epochs: '3'}",
        "6: training.epochs: must be a whole number, got 3, write digits only, without quotes",
    ),
    "octal for a whole number": (
        "training: {epochs: 012}",
        "6: training.epochs: must be a whole number, got 012, write digits only, without quotes",
    ),
    "boolean for a whole number": (
        "training: {epochs: yes}",
        "6: training.epochs: must be a whole number, got yes, write digits only, without quotes",
    ),
    "text for a number": (
        "training: {learning_rate: fast}",
        "6: training.learning_rate: must be a number, got fast, write a number, without quotes",
    ),
    "boolean for a number": (
        "training: {decay: on}",
        "6: training.decay: must be a number, got on, write a number, without quotes",
    ),
    "number for a boolean": (
        "model: {bias_initialisation: 1}",
        "6: model.bias_initialisation: must be true or false, got 1, write true or false, without quotes",
    ),
    "nothing for a number": (
        "training: {epochs: }",
        "6: training.epochs: must be a whole number, got nothing, write digits only, without quotes",
    ),
    "boolean for a text": ("cluster: no", "6: cluster: must be text, got no, put it in quotes"),
    "list for a section": (
        "training: [1]",
        "6: training: must be a mapping, got [1], write `field: value` lines below it",
    ),
    "text for a mapping": (
        "search: {space: all}",
        "6: search.space: must be a mapping, got all, write `key: value` lines below it",
    ),
    "text for a list": ("comparators: mrnn", "6: comparators: must be a list, got mrnn, write [a, b]"),
    "not a number": ("training: {learning_rate: .nan}", "6: training.learning_rate: a number must be finite, got .nan"),
    "infinite": ("training: {learning_rate: -.Inf}", "6: training.learning_rate: a number must be finite, got -.Inf"),
    "overflowing": ("training: {decay: 1e999}", "6: training.decay: a number must be finite, got 1e999"),
    "huge whole number": (
        f"training: {{epochs: 1{'0' * 5000}}}",
        f"6: training.epochs: a whole number must fit 64 bits, got 1{'0' * 76}..., write a smaller number",
    ),
    "one of a list, typo": (
        "model: {name: mone}",
        f"6: model.name: must be one of {MODELS}, got mone, did you mean `monet`?",
    ),
    "unknown metric": (
        "search: {metric: f1}",
        "6: search.metric: must be one of f1_macro, f1_micro, auc_macro, accuracy, subset_accuracy, log_loss, got f1, "
        "write f1_macro, for instance",
    ),
    "unknown scheduler by name": (
        "search: {scheduler: ahsa}",
        "6: search.scheduler: must be one of fifo, asha, median_stopping, got ahsa, did you mean `asha`?",
    ),
    "unknown scheduler in a section": (
        "search: {scheduler: {name: ahsa}}",
        "6: search.scheduler.name: must be one of fifo, asha, median_stopping, got ahsa, did you mean `asha`?",
    ),
    "scheduler without a name": (
        "search: {scheduler: {grace_epochs: 2}}",
        "6: search.scheduler.name: required field is missing, name one: fifo, asha, median_stopping",
    ),
    "unknown comparator": (
        "comparators: [mrnn, chain_ensembel]",
        f"6: comparators[1]: must be one of {COMPARATORS}, got chain_ensembel, did you mean `chain_ensemble`?",
    ),
    "repeated comparator": (
        "comparators: [mrnn, mrnn]",
        "6: comparators: values must be distinct, got mrnn more than once, remove the repetition",
    ),
    "the model as its own comparator": (
        "comparators: [{name: half, change: {model.orders.activ: 2}}]",
        "6: comparators[0].change.model.orders.activ: a search path must name a field, got model.orders.activ, "
        "did you mean `model.orders.active`?",
    ),
    "a variant's value": (
        "comparators: [{name: half, change: {model.orders.active: 0}}]",
        "6: comparators[0].change.model.orders.active: must be >= 1, got 0, raise it",
    ),
    "a variant that does not go with the base": (
        "comparators: [{name: half, change: {model.orders.active: 33}}]",
        "6: comparators[0].change: `active` <= `count` must hold, got active=33 and count=32, "
        "lower active or raise count",
    ),
    "a variant without a change": (
        "comparators: [{name: half}]",
        "6: comparators[0]: a variant must change a field, got 'half' got none, add `change:` with a dotted path",
    ),
    "a variant with a method's name": (
        "comparators: [{name: mrnn, change: {model.orders.active: 2}}]",
        "6: comparators[0]: a variant must have a name of its own, got mrnn, which is a method, rename it",
    ),
    "the sweep's own model": (
        "comparators: [mrnn, monet]",
        "6: comparators[1]: a comparator must differ from the sweep's own model, got monet, "
        "remove it: the model has an entry already",
    ),
    "a holdout without its shares": (
        "folds: {method: holdout, test: 0.2}",
        "6: folds: method holdout needs `validation` and `test`, got not both, add the share of the subjects of each",
    ),
    "shares without a holdout": (
        "folds: {test: 0.2}",
        "6: folds: `validation` and `test` belong to method holdout, got method=shuffled, "
        "set `method: holdout` or remove them",
    ),
    "a holdout that leaves nothing to train on": (
        "folds: {method: holdout, validation: 0.5, test: 0.5}",
        "6: folds: `validation` + `test` < 1 must hold, got 0.5 + 0.5, lower one",
    ),
    "a holdout with folds": (
        "folds: {method: holdout, validation: 0.2, test: 0.2, count: 5}",
        "6: folds: `count`, `inner` and `selection` belong to folds, got method=holdout, remove them",
    ),
    "repeated seed": (
        "seeds: [3, 4, 3]",
        "6: seeds: values must be distinct, got 3 more than once, remove the repetition",
    ),
    "no seed": ("seeds: []", "6: seeds: must not be empty, got [], add a value"),
    "zero seeds": (
        "seeds: 0",
        "6: seeds: a number of seeds must lie in 1..1000, got 0, write another, or a list",
    ),
    "negative seed": ("seeds: [-1]", "6: seeds[0]: must be >= 0, got -1, raise it"),
    "seeds that are a boolean": ("seeds: true", "6: seeds: must be a list, got true, write [a, b]"),
    "more active orders than orders": (
        "model: {orders: {count: 4, active: 8}}",
        "6: model.orders: `active` <= `count` must hold, got active=8 and count=4, lower active or raise count",
    ),
    "parameter of another smoothing": (
        "loss: {smoothing: {name: ls, beta: 0.5}}",
        "6: loss.smoothing: `beta` belongs to smoothing rhls, got name is 'ls', set name to 'rhls' or remove beta",
    ),
    "orders without a monet": (
        "model: {name: mrnn, orders: {count: 4}}",
        "6: model.orders: model.orders belongs to monet, monet_mtts, and no trial or comparator is one (model.name: "
        "mrnn), set model.name to monet or remove it",
    ),
    "attention without a network that attends": (
        "model: {name: vmnc, attention: {heads: 4}}\ncomparators: [mrnn]",
        "6: model.attention: model.attention belongs to mttc, mtts, monet_mtts, and no trial or comparator is one "
        "(model.name: vmnc), set model.name to mttc or remove it",
    ),
    "attention in the space without a network that attends": (
        searching("model.attention.heads: {choice: [2, 4]}"),
        "6: search.space.model.attention.heads: model.attention belongs to mttc, mtts, monet_mtts, and no trial or "
        "comparator is one (model.name: monet), set model.name to mttc or remove it",
    ),
    "an image size that cuts a patch": (
        "model: {name: vmnc, encoder: {name: vit_b16, image_size: 100}}",
        "6: model.encoder: `image_size`: vit_b16 needs sides of 16 pixels or more, multiples of 16, got 100, choose "
        "another",
    ),
    "orders in the space without a monet": (
        "model: {name: vmnc}\n" + searching("model.orders.count: {choice: [4]}"),
        "7: search.space.model.orders.count: model.orders belongs to monet, monet_mtts, and no trial or comparator is "
        "one (model.name: vmnc), set model.name to monet or remove it",
    ),
    "one outer fold": ("folds: {count: 1}", "6: folds.count: must be >= 2, got 1, raise it"),
    "one inner fold": ("folds: {inner: 1}", "6: folds.inner: must be >= 2, got 1, raise it"),
    "no worker": ("folds: {workers_per_fold: 0}", "6: folds.workers_per_fold: must be >= 1, got 0, raise it"),
    "no processor": ("folds: {resources: {cpu: 0}}", "6: folds.resources.cpu: must be > 0, got 0, raise it"),
    "negative price": ("prices: {gpu_hour_usd: -1}", "6: prices.gpu_hour_usd: must be >= 0, got -1, raise it"),
    "grace beyond the last epoch": (
        "training: {epochs: 5}\nsearch: {scheduler: {name: asha, grace_epochs: 6}}",
        "7: search.scheduler.grace_epochs: grace_epochs <= training.epochs must hold, and a trial may have 5 epochs, "
        "got 6, lower grace_epochs or raise epochs",
    ),
    "grace beyond the least epochs of the space": (
        searching(
            "training.epochs: {choice: [9, 4]}", "trials: 2, scheduler: {name: median_stopping, grace_epochs: 5}"
        ),
        "6: search.scheduler.grace_epochs: grace_epochs <= training.epochs must hold, and a trial may have 4 epochs, "
        "got 5, lower grace_epochs or raise epochs",
    ),
    # The search space
    "path that is no field": (
        searching("model.order.count: {choice: [4]}"),
        "6: search.space.model.order.count: a search path must name a field, got model.order.count, "
        "did you mean `model.orders.count`?",
    ),
    "path by its last name only": (
        searching("batch_size: {choice: [4]}"),
        "6: search.space.batch_size: a search path must name a field, got batch_size, "
        "did you mean `training.batch_size`?",
    ),
    "path of another section": (
        searching("folds.count: {choice: [4]}"),
        "6: search.space.folds.count: a search path must name a field, got folds.count, "
        "did you mean `model.orders.count`?",
    ),
    "path beyond a field": (
        searching("zzz: {choice: [4]}"),
        "6: search.space.zzz: a search path must name a field, got zzz, "
        "start with model., loss. or training.; see docs/spec.md",
    ),
    "too many dimensions": (
        searching(", ".join(f"a{number}: {{grid: [1]}}" for number in range(257))),
        "6: search.space: must have at most 256 values, got ",
    ),
    "empty grid": (
        searching("training.epochs: {grid: []}"),
        "6: search.space.training.epochs.grid: must not be empty, got [], add a value",
    ),
    "empty choice": (
        searching("training.epochs: {choice: []}"),
        "6: search.space.training.epochs.choice: must not be empty, got [], add a value",
    ),
    "misspelt dimension": (
        searching("training.epochs: {choise: [1]}"),
        f'6: search.space.training.epochs: {KINDS}, got {{"choise": [1]}}, did you mean `choice`?',
    ),
    "two dimensions at once": (
        searching("training.epochs: {choice: [1], grid: [2]}"),
        f"6: search.space.training.epochs: {KINDS}, got choice and grid, keep one",
    ),
    "values without a dimension": (
        searching("training.epochs: [1, 2]"),
        f"6: search.space.training.epochs: {KINDS}, got [1, 2], write {{choice: [a, b]}}, for instance",
    ),
    "bad value in a choice": (
        searching("training.epochs: {choice: [3, 0]}"),
        "6: search.space.training.epochs.choice[1]: must be >= 1, got 0, raise it",
    ),
    "bad name in a choice": (
        searching("training.optimizer: {choice: [adam, sgd]}"),
        "6: search.space.training.optimizer.choice[1]: must be one of adam, adamw, got sgd, write adam, for instance",
    ),
    "bad section in a choice": (
        searching("loss.smoothing: {choice: [{name: none}, {name: rhls, bta: 0.5}]}"),
        "6: search.space.loss.smoothing.choice[1].bta: unknown field, got bta, did you mean `beta`?",
    ),
    "section with a broken rule in a choice": (
        searching("loss.smoothing: {choice: [{name: none, beta: 0.5}]}"),
        "6: search.space.loss.smoothing.choice[0]: `beta` belongs to smoothing rhls, got name is 'none', "
        "set name to 'rhls' or remove beta",
    ),
    "repeated value": (
        searching("training.decay: {choice: [1, 0.5, 1.0]}"),
        "6: search.space.training.decay.choice[2]: values must be distinct, got 1.0, remove the repetition",
    ),
    "uniform whole numbers": (
        searching("model.orders.count: {uniform: [2, 9]}"),
        "6: search.space.model.orders.count.uniform: model.orders.count takes whole numbers, got uniform, use randint",
    ),
    "whole numbers for a real field": (
        searching("loss.dice: {randint: [0, 3]}"),
        "6: search.space.loss.dice.randint: loss.dice takes real numbers, got randint, use uniform or loguniform",
    ),
    "range on a section": (
        searching("loss.smoothing: {uniform: [0, 1]}"),
        "6: search.space.loss.smoothing.uniform: loss.smoothing is a section and takes no range, got uniform, "
        "use choice",
    ),
    "range on a name": (
        searching("model.name: {randint: [0, 1]}"),
        "6: search.space.model.name.randint: model.name is no number and takes no range, got randint, use choice",
    ),
    "range the wrong way round": (
        searching("loss.dice: {uniform: [2, 1]}"),
        "6: search.space.loss.dice.uniform: low < high must hold, got [2.0, 1.0], swap or change the bounds",
    ),
    "empty range": (
        searching("training.epochs: {randint: [3, 3]}"),
        "6: search.space.training.epochs.randint: low < high must hold, got [3, 3], swap or change the bounds",
    ),
    "loguniform from zero": (
        searching("loss.dice: {loguniform: [0, 1]}"),
        "6: search.space.loss.dice.loguniform[0]: loguniform needs low > 0, got 0.0, raise it, or use uniform",
    ),
    "low end outside the field": (
        searching("loss.dice: {uniform: [-1, 1]}"),
        "6: search.space.loss.dice.uniform[0]: must be >= 0, got -1.0, raise it",
    ),
    "high end outside the field": (
        searching("model.head_layers: {randint: [1, 18]}"),
        "6: search.space.model.head_layers.randint[1]: must be <= 16, got 17, lower it",
    ),
    "one bound": (
        searching("loss.dice: {uniform: [1]}"),
        "6: search.space.loss.dice.uniform[1]: required field is missing, write [low, high]",
    ),
    "three bounds": (
        searching("loss.dice: {uniform: [1, 2, 3]}"),
        "6: search.space.loss.dice.uniform: must have at most 2 values, got [1, 2, 3], remove some",
    ),
    "path within a path": (
        searching("loss.smoothing: {choice: [{name: rhls}]}, loss.smoothing.beta: {uniform: [0, 1]}"),
        "6: search.space.loss.smoothing.beta: a path must not lie within another path, "
        "got loss.smoothing.beta within loss.smoothing, keep one of them",
    ),
    "values that do not go together": (
        searching("model.orders.count: {choice: [4, 16]}, model.orders.active: {choice: [2, 8]}"),
        "6: search.space.model.orders.count: `active` <= `count` must hold in every trial, got active=8 and count=4 "
        "(drawn: model.orders.count=4, model.orders.active=8), lower active or raise count, "
        "or vary the section `model.orders` as a whole",
    ),
    "value that does not go with the base": (
        "model: {orders: {active: 8}}\n" + searching("model.orders.count: {randint: [4, 999]}"),
        "7: search.space.model.orders.count: `active` <= `count` must hold in every trial, got active=8 and count=4 "
        "(drawn: model.orders.count=4), lower active or raise count, or vary the section `model.orders` as a whole",
    ),
    "smoothing name without its parameters": (
        "loss: {smoothing: {name: rhls, beta: 0.5}}\n" + searching("loss.smoothing.name: {choice: [rhls, ls]}"),
        "7: search.space.loss.smoothing.name: `beta` belongs to smoothing rhls in every trial, got name is 'ls' "
        "(drawn: loss.smoothing.name=ls), set name to 'rhls' or remove beta, "
        "or vary the section `loss.smoothing` as a whole",
    ),
    # Algorithms and counts
    "range in a grid search": (
        searching("loss.dice: {uniform: [0, 1]}", "algorithm: grid"),
        "6: search.space.loss.dice.uniform: algorithm grid takes only grid and choice, got uniform, "
        "list values or use algorithm random",
    ),
    "grid in optuna": (
        searching("loss.dice: {grid: [0, 1]}", "algorithm: optuna, trials: 4"),
        "6: search.space.loss.dice.grid: algorithm optuna takes no grid, got grid, use choice, or algorithm grid",
    ),
    "wrong number of grid trials": (
        searching("loss.dice: {grid: [0, 1]}, training.epochs: {choice: [1, 2, 3]}", "algorithm: grid, trials: 5"),
        "6: search.trials: algorithm grid runs every combination, 6 trials, got 5, remove trials or set it to 6",
    ),
    "random without a number": (
        searching("loss.dice: {uniform: [0, 1]}", "algorithm: random"),
        "6: search.trials: required with algorithm random, got none, add `trials:` with a number of draws",
    ),
    "trials without a space": (
        "search: {trials: 5}",
        "6: search.trials: a sweep without a search space has one trial, got 5, "
        "add search.space, or remove trials (seeds repeat an evaluation)",
    ),
    "no trials": (searching("loss.dice: {uniform: [0, 1]}", "trials: 0"), "6: search.trials: must be >= 1, got 0"),
    "too many trials": (
        searching("loss.dice: {grid: [0, 1]}", "trials: 600000"),
        "6: search.space: a sweep must have at most 1000000 trials, got 1200000, list fewer values or draw at random",
    ),
    # YAML itself
    "duplicate section": ("kind: Sweep", "6: kind: a key must stand once, got a second one after line 2, keep one"),
    "duplicate field": (
        "training:\n  epochs: 3\n  epochs: 4",
        "8: training.epochs: a key must stand once, got a second one after line 7, keep one",
    ),
    "tag that builds an object": (
        "cluster: !!python/object/apply:os.system [date]",
        "6: cluster: YAML tags are refused, got tag:yaml.org,2002:python/object/apply:os.system, remove the tag",
    ),
    "own tag": ("training: !big {epochs: 3}", "6: training: YAML tags are refused, got !big, remove the tag"),
    "merge key": (
        "model: &m {hidden_size: 8}\ntraining: {<<: *m}",
        "7: training.<<: merge keys are refused, got <<, write the fields out",
    ),
    "second document": ("---\nkind: Sweep", "6: (document): must hold one YAML document, got a second `---`"),
    "alias of nothing": (
        "training: *base",
        "6: training: an alias must name an anchor that ends above it, got *base, write the value out",
    ),
    "alias of itself": (
        "training: &t {epochs: *t}",
        "6: training.epochs: an alias must name an anchor that ends above it, got *t, write the value out",
    ),
    "key that is a list": ("[a, b]: 3", "6: (document): a key must be one word, got a list or mapping"),
    "tab": ("training:\n\tepochs: 3", "7: (document): must be valid YAML, got while scanning for the next token found"),
    "open bracket": ("seeds: [1, 2", "7: (document): must be valid YAML, got while parsing a flow sequence"),
    "control character": ("cluster: a\x07b", "6: (document): must hold printable text only, got character 0x7"),
    "control character, escaped": (
        'cluster: "a\\e[31mb"',
        f"6: cluster: {SLUG}, got a\\x1b[31mb, rename it, for instance `my-sweep-1`",
    ),
}

# Instead of HEAD: (old, new) on HEAD, and the line.
REPLACED = {
    "wrong version": (
        "duchenne/v1",
        "duchenne/v2",
        "1: apiVersion: must be duchenne/v1, got duchenne/v2, did you mean `duchenne/v1`?",
    ),
    "wrong kind": ("kind: Sweep", "kind: Job", "2: kind: must be Sweep, got Job, write Sweep, for instance"),
    "no version": (
        "apiVersion: duchenne/v1",
        "",
        "2: apiVersion: required field is missing, add `apiVersion: duchenne/v1`",
    ),
    "no name": ("{name: a}", "{}", "3: metadata.name: required field is missing, add `name:`"),
    "name with capitals": (
        "{name: a}",
        "{name: My_Sweep}",
        f"3: metadata.name: {SLUG}, got My_Sweep, rename it, for instance `my-sweep-1`",
    ),
    "name too long": (
        "{name: a}",
        f"{{name: {'a' * 41}}}",
        f"3: metadata.name: must have at most 40 characters, got {'a' * 41}, shorten it",
    ),
    "name that YAML reads as a boolean": (
        "{name: a}",
        "{name: no}",
        "3: metadata.name: must be text, got no, put it in quotes",
    ),
    "no dataset": (
        "data: {uri: builtin://yeast}",
        "",
        "1: data: required field is missing, add `data: {uri: builtin://yeast}`",
    ),
    "empty uri": ("builtin://yeast", "''", '4: data.uri: must not be empty, got "", write a value'),
    "unknown builtin": (
        "builtin://yeast",
        "builtin://yaest",
        "4: data.uri: no such builtin dataset, got builtin://yaest, choose one of faces, toy, yeast",
    ),
    "unknown option of a builtin": (
        "builtin://yeast",
        "'builtin://toy?rows=3'",
        "4: data.uri: option 'rows' is unknown, got builtin://toy?rows=3, "
        "toy has the options: count, tasks, seed, sigma1, sigma2",
    ),
    "unknown scheme": (
        "builtin://yeast",
        "https://example.org/faces",
        "4: data.uri: a URI must be a path, builtin://, s3:// or file://, got https://, copy the data there",
    ),
    "no bucket": ("builtin://yeast", "s3://", "4: data.uri: a URI must name a dataset, got 's3://', add its path"),
    "unknown protocol": (
        "{uri: builtin://yeast}",
        "{uri: faces, protocol: bp4}",
        "4: data.protocol: a protocol must be bp4d, disfa or the path of a .yaml, .yml or .json file, got 'bp4', "
        "name one of them, or leave it out to deal the folds by `folds.seed`",
    ),
    "folds of a protocol": (
        "{uri: builtin://yeast}",
        "{uri: faces, protocol: disfa}\nfolds: {count: 5}",
        "5: folds.count: protocol disfa has 3 folds, got 5, set folds.count to 3",
    ),
    "inner folds of a protocol": (
        "{uri: builtin://yeast}",
        "{uri: faces, protocol: disfa}\nfolds: {inner: 19}",
        "5: folds.inner: inner folds <= training subjects must hold, and a fold may train on 18, got 19, "
        "lower folds.inner or take a larger dataset",
    ),
    "a cache that there is not": (
        "{uri: builtin://yeast}",
        "{uri: faces, cache: pixels}",
        "4: data.cache: must be one of encoded, decoded, got pixels, write encoded, for instance",
    ),
    "a decoded cache of a table": (
        "{uri: builtin://yeast}",
        "{uri: builtin://yeast, cache: decoded}",
        "4: data.cache: decoded faces need a dataset with a column 'image', and this one has features, got decoded, "
        "set it to encoded",
    ),
    "a cache of nothing": ("builtin://yeast}", "faces, cache_gb: 0}", "4: data.cache_gb: must be > 0, got 0, raise it"),
    "a cache on no machine in particular": (
        "{uri: builtin://yeast}",
        "{uri: faces, cache_folder: s3://bucket/cache}",
        "4: data.cache_folder: a cache folder must be an absolute path, since each machine of the sweep has its own, "
        "got 's3://bucket/cache', begin it with / or ~",
    ),
    "a partition that nobody made": (
        "{uri: builtin://yeast}",
        "{uri: builtin://yeast}\nfolds: {method: partition}",
        "5: folds.method: a partition is that of a dataset's owners, and this one has none, got partition, choose "
        "another method, or ingest the dataset again if an earlier version wrote it",
    ),
    "a partition with a protocol": (
        "{uri: builtin://yeast}",
        "{uri: faces, protocol: disfa}\nfolds: {method: partition}",
        "4: data.protocol: a protocol has folds, and method partition has none, got disfa, leave one of them out",
    ),
    "a partition with a share for the test": (
        "{uri: builtin://yeast}",
        "{uri: faces}\nfolds: {method: partition, test: 0.2}",
        "5: folds: `validation` and `test` belong to method holdout, got method=partition, "
        "set `method: holdout` or remove them",
    ),
    "a partition in folds": (
        "{uri: builtin://yeast}",
        "{uri: faces}\nfolds: {method: partition, inner: 5}",
        "5: folds: `count`, `inner` and `selection` belong to folds, got method=partition, remove them",
    ),
    "protocol of other subjects": (
        "{uri: builtin://yeast}",
        "{uri: builtin://yeast, protocol: bp4d}",
        "4: data.protocol: a protocol must name the dataset's subjects: bp4d has 41, the dataset 2417, "
        "leave protocol out, or name the one of this dataset",
    ),
    "more folds than subjects": (
        "builtin://yeast}",
        "'builtin://toy?count=4'}\nfolds: {count: 5}",
        "5: folds.count: folds <= subjects must hold, and the dataset has 4 subjects, got 5, "
        "lower folds.count or take a larger dataset",
    ),
    "more inner folds than subjects": (
        "builtin://yeast}",
        "'builtin://toy?count=4'}\nfolds: {count: 2, inner: 3}",
        "5: folds.inner: inner folds <= training subjects must hold, and a fold may train on 2, got 3, "
        "lower folds.inner or take a larger dataset",
    ),
    "no budget": (
        "budget: {wall_seconds: 60}",
        "",
        "1: budget: required field is missing, add `budget:` with usd, gpu_hours or wall_seconds",
    ),
    "budget of 0": ("wall_seconds: 60", "wall_seconds: 0", "5: budget.wall_seconds: must be > 0, got 0, raise it"),
    "budget without a limit": (
        "wall_seconds: 60",
        "usd: null",
        "5: budget: a budget must set a limit, got none, set usd, gpu_hours or wall_seconds to a number above 0",
    ),
}


@pytest.mark.parametrize(("added", "line"), ADDED.values(), ids=ADDED)
def test_added_lines_are_refused_with_one_line(added: str, line: str) -> None:
    lines = refusal(f"{HEAD}{added}\n")
    assert len(lines) == 1, lines
    assert lines[0].startswith(line)


@pytest.mark.parametrize(("old", "new", "line"), REPLACED.values(), ids=REPLACED)
def test_changed_lines_are_refused_with_one_line(old: str, new: str, line: str) -> None:
    assert old in HEAD
    assert refusal(HEAD.replace(old, new)) == [line]


def test_credentials_in_a_uri_are_refused_and_not_repeated() -> None:
    lines = refusal(HEAD.replace("builtin://yeast", "s3://key:hunter2@bucket/faces"))
    expected = "a URI must not carry credentials, got some, set them in the environment instead"
    assert lines == [f"4: data.uri: {expected}"]
    (line,) = refusal(HEAD.replace("{uri: builtin://yeast}", "s3://key:hunter2@bucket/faces"))
    assert line == "4: data: must be a mapping, got s3://***@bucket/faces, write `field: value` lines below it"


def test_drawn_faces_under_the_protocol_of_other_people() -> None:
    uri = "'builtin://faces?like=bp4d&subjects=27', protocol: disfa"
    line = "4: data.protocol: protocol disfa: subject 'SN001' is not in the dataset (27 of 27 are missing), "
    assert [text for text in refusal(HEAD.replace("builtin://yeast", uri)) if text.startswith(line)]


def test_an_option_of_a_builtin_out_of_range() -> None:
    (line,) = refusal(HEAD.replace("builtin://yeast", "'builtin://toy?count=0'"))
    assert line.startswith("4: data.uri: 1 <= count <= ")
    assert line.endswith(" must hold, got builtin://toy?count=0, write a whole number")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "1: (document): must describe a sweep, got an empty file, start from jobs/sweeps/toy.yaml"),
        ("# only a comment\n", "1: (document): must describe a sweep, got an empty file"),
        ("null\n", "1: (document): must describe a sweep, got an empty file"),
        ("\n- a\n", "2: (document): must be a mapping, got a list, write `apiVersion: duchenne/v1`"),
        ("hello\n", "1: (document): must be a mapping, got hello, write `apiVersion: duchenne/v1`"),
    ],
    ids=["empty", "comment", "null", "list", "text"],
)
def test_a_file_that_is_no_mapping(text: str, line: str) -> None:
    lines = refusal(text)
    assert len(lines) == 1
    assert lines[0].startswith(line)


def file_refusal(path: Path) -> str:
    with pytest.raises(SpecError) as caught:
        load_sweep(path)
    return str(caught.value).removeprefix(f"{path}:")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    assert file_refusal(tmp_path / "S.yaml") == "1: (file): must exist, got no such file, check the path"
    assert file_refusal(tmp_path) == "1: (file): must be a file, got a directory, name the YAML file in it"
    (tmp_path / "file").write_text(HEAD)
    inside = tmp_path / "file" / "S.yaml"
    assert file_refusal(inside) == (
        "1: (file): must be readable, got Not a directory, check the path and its permissions"
    )


def test_a_file_that_is_not_utf_8(tmp_path: Path) -> None:
    path = tmp_path / "S.yaml"
    path.write_bytes(HEAD.encode() + "team: é\n".encode("latin-1"))
    assert file_refusal(path) == (
        f"6: (file): must be UTF-8, got byte 0xe9 at offset {len(HEAD) + 6}, save the file as UTF-8"
    )
    path.write_bytes(HEAD.encode("utf-16"))
    assert file_refusal(path) == "1: (file): must be UTF-8, got byte 0xff at offset 0, save the file as UTF-8"


def test_a_byte_order_mark_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "S.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + HEAD.encode())
    assert load_sweep(path).metadata.name == "a"


def test_a_file_over_one_mebibyte(tmp_path: Path) -> None:
    path = tmp_path / "S.yaml"
    comment = "#" + "x" * (2**20 - len(HEAD) - 2) + "\n"
    path.write_text(HEAD + comment)
    assert path.stat().st_size == 2**20
    assert load_sweep(path).metadata.name == "a"
    path.write_text(HEAD + comment + "#")
    line = "1: (file): must be at most 1 MiB, got more than 1048576 bytes, remove what is no sweep"
    assert file_refusal(path) == line


def test_a_folds_file_that_does_not_fit(tmp_path: Path) -> None:
    folds = tmp_path / "folds.yaml"
    text = HEAD.replace("{uri: builtin://yeast}", f"{{uri: faces, protocol: {folds}}}")
    folds.write_text("parts: [[a], [b]]\n")
    assert refusal(text) == ["1: folds.count: protocol folds has 2 folds, got 3, set folds.count to 2"]
    folds.write_text("parts: [[a], [a]]\n")
    assert refusal(text)[0].startswith("4: data.protocol: must be a folds file, got ")
    folds.write_text("parts: [[a, b], [c, d], [e]]\n")
    assert load_sweep_text(text).data.protocol == str(folds)
