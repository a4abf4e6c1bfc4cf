"""Checkpoints of other toolboxes: told apart, converted, handed back, refused."""

import json

import numpy as np
import paddle
import pytest
from fill import fill

from paddleskel.convert.torch_file import read_torch, torch_file
from paddleskel.convert.weights import Foreign, convert, detect_network, read_any, read_weights, to_peer
from paddleskel.errors import UserError
from paddleskel.models.checkpoint import load_into, read_checkpoint
from paddleskel.models.recognizer import build_model
from paddleskel.skeleton.layout import load_layout

SMALL = {"base_channels": 16, "num_stages": 4, "inflate_stages": [3], "down_stages": [3]}
NETWORKS = {
    "STGCN": SMALL,
    "STGCNPlusPlus": SMALL,
    "AGCN": SMALL,
    "AAGCN": SMALL,
    "CTRGCN": SMALL,
    "DGSTGCN": SMALL,
    "MSG3D": {"base_channels": 12, "num_gcn_scales": 4, "num_g3d_scales": 3},
}


def build(name="STGCNPlusPlus", layout="coco", classes=7, **options):
    """A small network with weights that tell every position apart."""
    spec = {"backbone": {"name": name, **(options or NETWORKS[name])}, "head": "GCNHead"}
    model = build_model(spec, load_layout(layout), classes)
    theirs = lambda name: name.replace("._mean", ".running_mean").replace("._variance", ".running_var")
    state = {name: paddle.to_tensor(fill(theirs(name), p.shape)) for name, p in model.state_dict().items()}
    model.set_state_dict(state)
    model.eval()
    return model


def state_of(model):
    return {name: tensor.numpy() for name, tensor in model.state_dict().items()}


def logits_of(model):
    paddle.seed(0)
    return model(paddle.randn([2, 2, 16, model.backbone.num_joints, model.backbone.in_channels])).numpy()


def write(path, state):
    path.write_bytes(torch_file(state))
    return path


@pytest.mark.parametrize("peer", ["pyskl", "mmaction"])
@pytest.mark.parametrize("network", NETWORKS)
def test_weights_go_to_a_peer_and_back_unchanged(network, peer, tmp_path):
    model = build(network)
    theirs = to_peer(model, state_of(model), peer)
    assert f"cls_head.{'fc_cls' if peer == 'pyskl' else 'fc'}.weight" in theirs
    counters = {name for name in theirs if name.endswith("num_batches_tracked")}
    assert len(counters) == sum(name.endswith("running_mean") for name in theirs)
    path = write(tmp_path / "weights.pth", theirs)

    fresh = build(network)
    for parameter in fresh.parameters():
        parameter.set_value(paddle.zeros(parameter.shape))
    checkpoint, notes = read_weights(path, fresh)
    load_into(fresh, checkpoint, path)
    assert {"pyskl": "PYSKL", "mmaction": "MMAction2"}[peer] in notes[0]
    ours, back = state_of(model), state_of(fresh)
    assert all(np.array_equal(ours[name], back[name]) for name in ours)
    assert np.array_equal(logits_of(model), logits_of(fresh))


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("layout", ["coco", "nturgb+d"])
def test_the_network_is_told_from_its_weights(network, layout, tmp_path):
    model = build(network, layout)
    found = read_any(write(tmp_path / "weights.pth", to_peer(model, state_of(model), "pyskl")))
    about = detect_network(found.state)
    assert about["backbone"]["name"] == network
    assert about["layout"] == layout
    assert about["num_classes"] == 7
    twin = build_model({"backbone": about["backbone"], "head": "GCNHead"}, load_layout(layout), 7)
    state, report = convert(found, twin, "weights.pth")
    assert not report.unused
    twin.set_state_dict({name: paddle.to_tensor(array) for name, array in state.items()})
    twin.eval()
    assert np.array_equal(logits_of(model), logits_of(twin))


def test_wrappers_and_prefixes_are_taken_off(tmp_path):
    model = build()
    theirs = to_peer(model, state_of(model), "pyskl")
    wrapped = {f"module.{name}": array for name, array in theirs.items()}
    assert isinstance(read_any(write(tmp_path / "ddp.pth", wrapped)), Foreign)
    np.savez(tmp_path / "flat.npz", **theirs)
    np.savez(tmp_path / "state.npz", **{f"state/{name}": array for name, array in theirs.items()}, x=np.zeros(3))
    for name in ("flat.npz", "state.npz"):
        found = read_any(tmp_path / name)
        assert found.source == "PYSKL"
        assert found.state.keys() == theirs.keys()


def as_paddlevideo(state):
    """Under PaddleVideo's names: no graphs saved, linear weights turned."""
    renamed = {}
    for name, array in state.items():
        if name.endswith((".gcn.A", "num_batches_tracked")):
            continue
        turned = array.T if name.endswith("fc_cls.weight") else array
        name = name.replace("running_mean", "_mean").replace("running_var", "_variance").replace("cls_head", "head")
        renamed[name] = turned
    return renamed


def test_paddlevideo_weights_get_their_graphs(tmp_path):
    model = build_model({"backbone": {"name": "STGCNPlusPlus", **SMALL}, "head": "GCNHead"}, load_layout("coco"), 7)
    model.eval()
    path = tmp_path / "pv.pdparams"
    paddle.save(
        {name: paddle.to_tensor(a) for name, a in as_paddlevideo(to_peer(model, state_of(model), "pyskl")).items()},
        str(path),
    )
    found = read_any(path)
    assert found.source == "PaddleVideo"
    assert detect_network(found.state)["layout"] == "coco"
    twin = build_model({"backbone": {"name": "STGCNPlusPlus", **SMALL}, "head": "GCNHead"}, load_layout("coco"), 7)
    state, report = convert(found, twin, path)
    assert [name for name in report.filled if name.endswith(".A")] == report.filled != []
    twin.set_state_dict({name: paddle.to_tensor(array) for name, array in state.items()})
    twin.eval()
    assert np.array_equal(logits_of(model), logits_of(twin))


# ---- refusals: one sentence each ----


def refused(path, model):
    with pytest.raises(UserError) as error:
        read_weights(path, model)
    sentence = str(error.value)
    assert "\n" not in sentence
    return sentence


def test_weights_of_another_model_are_refused(tmp_path):
    model = build("STGCN")
    path = write(tmp_path / "stgcn.pth", to_peer(model, state_of(model), "pyskl"))
    sentence = refused(path, build("STGCNPlusPlus"))
    assert "stgcn.pth: this PYSKL checkpoint does not fit the network" in sentence
    assert "it is of another model" in sentence


def test_weights_for_other_joints_are_refused(tmp_path):
    model = build(layout="nturgb+d")
    path = write(tmp_path / "ntu.pth", to_peer(model, state_of(model), "pyskl"))
    assert "it is for 25 joints, the config's layout has 17" in refused(path, build(layout="coco"))


def test_missing_and_misshapen_arrays_are_named(tmp_path):
    model = build()
    theirs = to_peer(model, state_of(model), "pyskl")
    less = {name: array for name, array in theirs.items() if name != "backbone.gcn.1.gcn.bn.weight"}
    sentence = refused(write(tmp_path / "less.pth", less), model)
    assert "1 arrays are missing (backbone.gcn.1.gcn.bn.weight" in sentence
    theirs["backbone.gcn.0.gcn.conv.weight"] = theirs["backbone.gcn.0.gcn.conv.weight"][:, :2]
    sentence = refused(write(tmp_path / "thin.pth", theirs), model)
    assert "backbone.gcn.0.gcn.conv.weight has shape [48, 2, 1, 1], the network has [48, 3, 1, 1]" in sentence


def test_files_of_no_toolbox_are_refused(tmp_path):
    path = write(tmp_path / "resnet.pth", {"conv1.weight": np.zeros((4, 3, 7, 7), np.float32)})
    assert "these are no weights of a known toolbox" in refused(path, build())


# ---- fine-tuning ----


@pytest.mark.parametrize("source", ["ours", "pyskl"])
def test_another_number_of_classes_starts_a_fresh_head(source, tmp_path):
    model, target = build(classes=60), build(classes=7)
    if source == "ours":
        path = tmp_path / "ours.pdparams"
        paddle.save(model.state_dict(), str(path))
    else:
        path = write(tmp_path / "theirs.pth", to_peer(model, state_of(model), "pyskl"))
    head = state_of(target)["head.fc.weight"].copy()
    checkpoint, notes = read_weights(path, target, fresh_head=True)
    assert any("is for 60 classes, this network has 7; its last layer starts afresh" in note for note in notes)
    load_into(target, checkpoint, path)
    after = state_of(target)
    assert np.array_equal(after["head.fc.weight"], head)
    assert np.array_equal(
        after["backbone.blocks.1.tcn.mix.conv.weight"], state_of(model)["backbone.blocks.1.tcn.mix.conv.weight"]
    )


# ---- the tool, and main.py ----


@pytest.fixture
def pth(tmp_path):
    model = build(classes=12)
    return write(tmp_path / "published.pth", to_peer(model, state_of(model), "mmaction")), model


def test_the_tool_detects_and_converts_there_and_back(pth, run, tmp_path):
    path, model = pth
    ours = tmp_path / "ours.pdparams"
    shown = run("convert_weights", path, ours)
    assert shown.code == 0, shown.err
    assert "network: STGCNPlusPlus, layout coco, 12 classes" in shown.out
    assert "source: MMAction2" in shown.out
    converted = read_checkpoint(ours).state
    assert all(np.array_equal(converted[name], array) for name, array in state_of(model).items())
    for name in ("back.pth", "back.npz"):
        assert run("convert_weights", ours, tmp_path / name, "--to", "mmaction").code == 0
    back, theirs = read_torch(tmp_path / "back.pth")["state_dict"], read_torch(path)["state_dict"]
    assert back.keys() == theirs.keys() == set(np.load(tmp_path / "back.npz").files)
    assert all(np.array_equal(back[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["{pth}", "{tmp}/out.pth"], "the output must end in .pdparams"),
        (["{pth}", "{tmp}/out.pdparams", "--to", "pyskl"], "with --to, the output must end in .pth or .npz"),
        (["{tmp}/none.pth", "{tmp}/out.pdparams"], "no such file"),
        (["{pth}", "{pth}"], "is the input too"),
        (
            ["{pth}", "{tmp}/out.pdparams", "-c", "configs/recognition/ctrgcn/ctrgcn_toy.yaml"],
            "it is of another model, or incomplete",
        ),
    ],
)
def test_the_tool_refuses_in_one_sentence_and_writes_nothing(arguments, words, pth, run, tmp_path):
    filled = [argument.format(pth=pth[0], tmp=tmp_path) for argument in arguments]
    result = run("convert_weights", *filled)
    assert result.code == 2
    assert words in result.err
    assert result.err.count("\n") == 1
    assert not list(tmp_path.glob("out.*"))


def test_main_and_export_take_published_weights(pth, run, toy_options, tmp_path):
    path, _ = pth
    config = "configs/recognition/stgcn_plusplus/stgcn_plusplus_toy.yaml"
    keep = [option for option in toy_options if "MODEL." not in option]
    options = [part for option in keep if option != "-o" for part in ("-o", option)]
    for key, value in SMALL.items():
        options += ["-o", f"MODEL.backbone.{key}={json.dumps(value)}"]
    options += ["-o", f"output_dir={tmp_path / 'run'}"]
    tested = run("main", "-c", config, "--test", "-w", path, *options)
    assert tested.code == 0, tested.err
    assert "arrays of a MMAction2 checkpoint" in tested.out
    overrides = [part.replace("-o", "--override") if part == "-o" else part for part in options]
    exported = run("export_model", "-c", config, "-p", path, "-o", tmp_path / "exported", *overrides)
    assert exported.code == 0, exported.err
