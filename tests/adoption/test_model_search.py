"""What a program trains and saves, read from its sources."""

from __future__ import annotations

import ast

import pytest

from autolab.adoption.model_search import TrainedModel, search_model
from autolab.adoption.program_sources import ProgramSources, SourceFile
from autolab.errors import UsageError

NET = """
import torch
from torch import nn

class Block(nn.Module):
    pass

class Net(nn.Module):
    def __init__(self, inputs, hidden=8):
        super().__init__()
"""
LOOP = """
import torch
from net import Net
net = Net(4, HIDDEN).to("cpu")
"""


def search(script: str, *words: str, name: str | None = None, path: str = "train.py", **others: str) -> TrainedModel:
    files = [SourceFile(path, script, ast.parse(script))]
    for module, text in others.items():
        file = module.replace("__", "/") + ".py"
        files.append(SourceFile(file, text, ast.parse(text)))
    committed = {source.path for source in files} | {"pkg/__init__.py", "src/pkg/__init__.py"}
    return search_model(ProgramSources(files[0], tuple(files[1:]), ()), committed, ["python", path, *words], name)


def test_a_state_that_is_saved_leads_to_its_class_and_to_how_it_is_built() -> None:
    script = f"HIDDEN = 16\n{LOOP}torch.save(net.state_dict(), 'out/net.pt')\n"
    model = search(script, net=NET)
    assert model.cls is not None and (str(model.cls), model.cls.trains) == ("net:Net", False)
    # A candidate may change the constant: predict.py reads it where the training does.
    assert model.call == "Net(4, setting('train.py', 'HIDDEN'))"
    assert model.saved is not None
    assert (model.saved.form, model.saved.path, model.saved.place) == ("state", "out/net.pt", "train.py:6")


@pytest.mark.parametrize(
    ("build", "call"),
    [
        ("net = Net(4, args.hidden)", "Net(4, setting('train.py', 'hidden'))"),
        ("net = Net(4, hidden=32)", "Net(4, hidden=32)"),
        ("size = args.hidden\nnet = Net(4, size)", "Net(4, setting('train.py', 'hidden'))"),
        ("net = Net(4, len(data))", "Net(4, FILL_IN)"),
        ("raw = Net(4)\nnet = torch.compile(raw)", "Net(4)"),
        ("net = nn.DataParallel(Net(4).cuda())", "Net(4)"),
        ("inner = Net(4)\nnet = inner.module if ddp else inner", "Net(4)"),
    ],
)
def test_how_the_model_is_built(build: str, call: str) -> None:
    flags = "parser.add_argument('-h', '--hidden', default=8)\nargs = parser.parse_args()\n"
    assert search(f"{flags}{build}\ntorch.save(net.state_dict(), 'a.pt')\n", net=NET).call == call


def test_a_flag_of_the_command_is_the_value_that_the_code_may_override() -> None:
    script = (
        "parser.add_argument('--hidden', default=8)\nnet = Net(4, args.hidden)\ntorch.save(net.state_dict(), 'a')\n"
    )
    for words in (["--hidden", "32"], ["--hidden=32"]):
        assert search(script, *words, net=NET).call == "Net(4, setting('train.py', 'hidden', 32))"


def test_what_the_checkpoint_holds_comes_before_the_sources() -> None:
    script = """
model_args = dict(n=4)
config = Config(**model_args)
net = Net(config)
checkpoint = {"optimizer": optim.state_dict(), "weights": net.state_dict(), "sizes": model_args}
torch.save(checkpoint, os.path.join(out_dir, "ckpt.pt"))
"""
    model = search(script, net=NET + "\nclass Config:\n    pass\n")
    assert model.call == "Net(Config(**checkpoint['sizes']))"
    assert [str(cls) for cls in model.imports] == ["net:Net", "net:Config"]
    assert model.saved is not None
    assert (model.saved.form, model.saved.key, model.saved.path) == ("checkpoint", "weights", "ckpt.pt")


@pytest.mark.parametrize(
    ("line", "path"),
    [
        ("torch.save(net, f'{OUT}/net.pt')", "runs/net.pt"),
        ("torch.save(net, Path(OUT) / 'net.pt')", "runs/net.pt"),
        ("torch.save(net, OUT + '/net.pt')", "runs/net.pt"),
        ("torch.save(net, os.path.join(unknown(), 'net.pt'))", "net.pt"),
        ("torch.save(net, args.save)", "model.pt"),
        ("with open(args.save, 'wb') as file:\n    torch.save(net, file)", "model.pt"),
        ("joblib.dump(net, '/tmp/net.joblib')", "tmp/net.joblib"),
        ("np.savez('out/net.npz', w=w)", "out/net.npz"),
        ("torch.save(net, where)", ""),
    ],
)
def test_where_a_model_is_saved(line: str, path: str) -> None:
    model = search(f"OUT = 'runs'\nparser.add_argument('--save', default='model.pt')\nnet = make()\n{line}\n")
    assert model.saved is not None and (model.saved.form, model.saved.path) == ("whole", path)


@pytest.mark.parametrize(
    ("line", "form", "key"),
    [
        ("save_file(net.state_dict(), 'net.safetensors')", "state", ""),
        ("net.module.save_pretrained('best')\ntokenizer.save_pretrained('best')", "pretrained", ""),
        ("trainer.save_checkpoint('last.ckpt')", "checkpoint", "state_dict"),
        ("torch.jit.save(net, 'net.ts')", "whole", ""),
        ("torch.save(optim.state_dict(), 'o.pt')\ntorch.save(net.state_dict(), 'net.pt')", "state", ""),
    ],
)
def test_other_ways_to_save(line: str, form: str, key: str) -> None:
    model = search(f"net = Net(4)\n{line}\n", net=NET + "\nclass Other(nn.Module):\n    pass\n")
    assert model.saved is not None and (model.saved.form, model.saved.key) == (form, key)
    if form in ("state", "pretrained"):
        assert str(model.cls) == "net:Net"


def test_the_place_that_a_class_is_imported_from() -> None:
    save = "torch.save(net.state_dict(), 'a')\n"
    inner = search(f"net = Net(4)\n{save}", path="bin/train.py", src__pkg__model=NET)
    assert inner.cls is not None and (inner.cls.module, inner.cls.folder) == ("pkg.model", "src")
    package = search(f"net = Net(4)\n{save}", pkg__model=NET)
    assert package.cls is not None and (package.cls.module, package.cls.folder) == ("pkg.model", "")
    beside = search(f"net = Net(4)\n{save}", path="mnist/main.py", mnist__model=NET)
    assert beside.cls is not None and (beside.cls.module, beside.cls.folder) == ("model", "mnist")


def test_a_script_without_a_guard_would_train_when_it_is_imported() -> None:
    script = f"{NET}\nnet = Net(4)\ntorch.save(net.state_dict(), 'a')\n"
    bare = search(script)
    guarded = search(script + "if __name__ == '__main__':\n    main()\n")
    assert bare.cls is not None and bare.cls.trains
    assert guarded.cls is not None and not guarded.cls.trains


def test_a_class_that_the_user_names_has_to_be_there() -> None:
    assert str(search("x = 1\n", name="net:Block", net=NET).cls) == "net:Block"
    with pytest.raises(UsageError, match=r"--model: net:Nett: not in the training's sources.*they have net:Block"):
        search("x = 1\n", name="net:Nett", net=NET)


def test_a_program_that_says_nothing() -> None:
    model = search("print(1)\n")
    assert (model.cls, model.saved, model.classes, model.is_regression) == (None, None, (), False)
    assert search("loss = nn.MSELoss()\n").is_regression
