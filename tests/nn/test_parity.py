"""Networks against the published ones: the same weights give the same logits, gradients and statistics."""

import json

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest
from conftest import ROOT
from fill import CLASSES, LABELS, fill, inputs

from paddleskel.convert.links import link_model, load_state, save_state
from paddleskel.models.recognizer import build_model
from paddleskel.skeleton.layout import load_layout

TINY = {"base_channels": 16, "num_stages": 4, "inflate_stages": [3], "down_stages": [3]}
NETWORKS = {"stgcn": "STGCN", "stgcnpp": "STGCNPlusPlus"}
LAYOUTS = {"coco": "coco2d", "nturgb+d": "ntu3d"}
BUFFERS = ("running_mean", "running_var", "num_batches_tracked")


def build(network, layout, classes, **options):
    return build_model(
        {"backbone": {"name": NETWORKS[network], **options}, "head": "GCNHead"}, load_layout(layout), classes
    )


def arrays(model):
    return {name: tensor.numpy() for name, tensor in model.state_dict().items()}


def shapes_of_theirs(model):
    return {name: array.shape for name, array in save_state(model, arrays(model)).items()}


def set_theirs(model, state):
    ours = load_state(model, state)
    assert set(ours) == set(model.state_dict())
    model.set_state_dict({name: paddle.to_tensor(np.ascontiguousarray(array)) for name, array in ours.items()})


def gradients(model):
    """Gradients under their names; those of buffers are zero."""
    found = {name: np.zeros(tensor.shape, np.float32) for name, tensor in model.state_dict().items()}
    found |= {name: p.grad.numpy() for name, p in model.named_parameters() if p.grad is not None}
    return save_state(model, found)


def difference(ours, theirs):
    return np.abs(ours - theirs).max() / np.abs(theirs).max()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("network", NETWORKS)
def test_networks_equal_torch_on_weights_by_formula(network, layout):
    golden = np.load(ROOT / "tests" / "golden" / "networks.npz")
    golden = {key.split("/")[-1]: golden[key] for key in golden.files if key.startswith(f"{network}/{layout}/")}
    model = build(network, layout, CLASSES, **TINY)
    set_theirs(model, {name: fill(name, shape) for name, shape in shapes_of_theirs(model).items()})
    x = paddle.to_tensor(inputs(load_layout(layout).num_joints))
    model.eval()
    assert difference(model(x).numpy(), golden["logits"]) < 1e-5
    model.train()
    logits = model(x)
    loss = F.cross_entropy(logits, paddle.to_tensor(LABELS))
    loss.backward()
    assert difference(logits.numpy(), golden["train_logits"]) < 1e-5
    assert float(loss) == pytest.approx(float(golden["loss"]), rel=1e-5)
    found = gradients(model)
    for name, norm in zip(golden["grad_names"].tolist(), golden["grad_norms"].tolist()):
        if norm > 1e-5:  # biases in front of a BatchNorm have none
            assert np.linalg.norm(found[name]) == pytest.approx(norm, rel=1e-3), name


@pytest.mark.parametrize(
    ("layout", "trained", "in_their_terms"), [("coco", 1388418, 1393016), ("nturgb+d", 1398546, 1403144)]
)
def test_stgcn_plusplus_has_the_published_number_of_parameters(layout, trained, in_their_terms):
    """We lack the biases in front of BatchNorms, which change nothing; counted with them the numbers agree."""
    model = build("stgcnpp", layout, 60)
    theirs = shapes_of_theirs(model)
    counted = {name: np.prod(shape, dtype=int) for name, shape in theirs.items() if not name.endswith(BUFFERS)}
    assert sum(counted.values()) == in_their_terms
    ours = sum(p.size for p in model.parameters() if not p.stop_gradient)
    assert ours == trained
    absorbed = {feed for link in link_model(model) if link.ours[0].endswith("_mean") for feed in link.theirs}
    assert in_their_terms - ours == sum(counted.get(name, 0) for name in absorbed)


def test_a_round_trip_to_their_names_changes_nothing():
    model = build("stgcnpp", "coco", 7, **TINY)
    state = {name: fill(name, tensor.shape) for name, tensor in arrays(model).items()}
    back = load_state(model, save_state(model, state))
    assert all(np.array_equal(state[name], back[name]) for name in state)


# ---- the published weights themselves (skipped without them) ----


def reference_state(path):
    file = np.load(path)
    return file, {name[6:]: file[name] for name in file.files if name.startswith("state/")}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_full_stgcn_plusplus_gives_the_reference_logits(reference, layout):
    file, state = reference_state(reference / "ref" / f"stgcnpp_{LAYOUTS[layout]}.npz")
    model = build("stgcnpp", layout, 60)
    set_theirs(model, state)
    used = {name for link in link_model(model) for name in link.theirs}
    assert {name for name in state if not name.endswith("num_batches_tracked")} == used
    model.eval()
    x = paddle.to_tensor(file["x"])
    assert difference(model(x).numpy(), file["logits"]) < 1e-4
    features = model.backbone(x).numpy()
    assert difference(features, file["feat"].reshape(features.shape)) < 1e-4
    assert difference(F.softmax(model(x)).numpy(), file["prob"]) < 1e-4


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("network", NETWORKS)
def test_tiny_networks_train_like_the_reference(reference, network, layout):
    path = reference / "ref" / f"{network}_{LAYOUTS[layout]}_tiny.npz"
    file, state = reference_state(path)
    config = json.loads(path.with_suffix(".json").read_text())
    options = {key: config["backbone"][key] for key in TINY}
    model = build(network, layout, config["cls_head"]["num_classes"], **options)
    set_theirs(model, state)
    model.eval()
    x = paddle.to_tensor(file["x"])
    assert difference(model(x).numpy(), file["logits_eval"]) < 1e-4
    model.train()
    logits = model(x)
    loss = F.cross_entropy(logits, paddle.to_tensor(file["labels"]))
    loss.backward()
    assert difference(logits.numpy(), file["logits_train"]) < 1e-4
    assert float(loss) == pytest.approx(float(file["loss_train"]), rel=1e-5)
    found = gradients(model)
    for name in file.files:
        if name.startswith("grad/") and np.abs(file[name]).max() > 1e-6:
            assert difference(found[name[5:]], file[name]) < 1e-3, name
    check_statistics(model, file)


def check_statistics(model, file):
    """After one training step: means equal, variances up to n/(n-1), since Paddle keeps the biased one."""
    links = link_model(model)
    bias = reference_biases(links, file)
    ours = save_state(model, arrays(model))
    persons, frames, joints = 2 * 2, file["x"].shape[2], file["x"].shape[3]
    for name in (key for key in file.files if key.startswith("after_train_fwd/")):
        key = name.split("/", 1)[1]
        if key.endswith("running_mean"):
            expected = file[name] - bias.get(key, 0)
            np.testing.assert_allclose(ours[key], expected, atol=2e-5 * max(1, np.abs(expected).max()))
        else:
            before, after = file[f"state/{key}"], file[name]
            late = any(key.startswith(f"backbone.gcn.{i}.") for i in (2, 3)) and not key.startswith(
                "backbone.gcn.2.gcn"
            )
            count = persons * (frames // 2 if late and not opens(key) else frames) * (1 if "data_bn" in key else joints)
            biased = 0.9 * before + (after - 0.9 * before) * (count - 1) / count
            np.testing.assert_allclose(ours[key], biased, rtol=2e-4, atol=1e-6, err_msg=key)


def opens(key):
    """BatchNorms of the halving stage that still see all frames: those of the branches' openings."""
    return key.startswith("backbone.gcn.2.tcn.branches")


def reference_biases(links, file):
    """Their running mean -> the bias we absorbed into it."""
    found = {}
    for link in links:
        if link.ours[0].endswith("_mean"):
            given = [file[f"state/{name}"] for name in link.theirs]
            (ours,) = link.load(*given)
            means = [i for i, name in enumerate(link.theirs) if name.endswith("running_mean")]
            cuts = np.cumsum([len(given[i]) for i in means])[:-1]
            for i, share in zip(means, np.split(ours, cuts)):
                found[link.theirs[i]] = given[i] - share
    return found


def test_paddlevideo_weights_give_its_logits(reference):
    """PaddleVideo's layout: Paddle names, linear weights transposed already, the graph fixed and not saved."""
    file, state = reference_state(reference / "ref" / "pv_stgcnpp_coco2d.npz")
    renamed = {}
    for name, array in state.items():
        name = name.replace("._mean", ".running_mean").replace("._variance", ".running_var")
        name = name.replace("head.fc_cls", "cls_head.fc_cls")
        renamed[name] = array.T if name == "cls_head.fc_cls.weight" else array
    model = build("stgcnpp", "coco", 60)
    renamed |= {f"backbone.gcn.{i}.gcn.A": file["A"] for i in range(10)}
    set_theirs(model, renamed)
    model.eval()
    logits = model(paddle.to_tensor(file["x"][:, 0]))
    assert difference(logits.numpy(), file["logits"]) < 1e-4
