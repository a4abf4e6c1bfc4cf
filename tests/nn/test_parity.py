"""Networks against the published ones: the same weights give the same logits, gradients and statistics."""

import json

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest
from conftest import ROOT
from fill import CLASSES, LABELS, fill, inputs

from paddleskel.convert.links import load_links, save_links
from paddleskel.convert.pyskl import link_model
from paddleskel.convert.weights import published_parameters
from paddleskel.models.recognizer import build_model
from paddleskel.skeleton.layout import load_layout

TINY = {"base_channels": 16, "num_stages": 4, "inflate_stages": [3], "down_stages": [3]}
NETWORKS = {
    "stgcn": "STGCN",
    "stgcnpp": "STGCNPlusPlus",
    "agcn": "AGCN",
    "aagcn": "AAGCN",
    "ctrgcn": "CTRGCN",
    "dgstgcn": "DGSTGCN",
    "msg3d": "MSG3D",
}
LAYOUTS = {"coco": "coco2d", "nturgb+d": "ntu3d"}

# Parameters with a 60-class head, counted in PYSKL's networks
PARAMETERS = {
    ("stgcn", "coco"): 3088704,
    ("stgcn", "nturgb+d"): 3098832,
    ("stgcnpp", "coco"): 1393016,
    ("stgcnpp", "nturgb+d"): 1403144,
    ("agcn", "coco"): 3459344,
    ("agcn", "nturgb+d"): 3469520,
    ("aagcn", "coco"): 3760228,
    ("aagcn", "nturgb+d"): 3781668,
    ("ctrgcn", "coco"): 1436496,
    ("ctrgcn", "nturgb+d"): 1446672,
    ("dgstgcn", "coco"): 1674244,
    ("dgstgcn", "nturgb+d"): 1701172,
    ("msg3d", "coco"): 2975763,
    ("msg3d", "nturgb+d"): 3194595,
}


def build(network, layout, classes, **options):
    spec = {"name": NETWORKS[network], **options}
    return build_model({"backbone": spec, "head": "GCNHead"}, load_layout(layout), classes)


def arrays(model):
    return {name: tensor.numpy() for name, tensor in model.state_dict().items()}


def theirs(model):
    return save_links(link_model(model), arrays(model))


def set_theirs(model, state):
    ours = load_links(link_model(model), state)
    assert set(ours) == set(model.state_dict())
    model.set_state_dict({name: paddle.to_tensor(np.ascontiguousarray(array)) for name, array in ours.items()})


def gradients(model):
    """Gradients under their names; those of buffers are zero."""
    found = {name: np.zeros(tensor.shape, np.float32) for name, tensor in model.state_dict().items()}
    found |= {name: p.grad.numpy() for name, p in model.named_parameters() if p.grad is not None}
    return save_links(link_model(model), found)


def difference(ours, theirs):
    return np.abs(ours - theirs).max() / np.abs(theirs).max()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("network", [name for name in NETWORKS if name != "msg3d"])
def test_networks_equal_torch_on_weights_by_formula(network, layout):
    golden = np.load(ROOT / "tests" / "golden" / "networks.npz")
    golden = {key.split("/")[-1]: golden[key] for key in golden.files if key.startswith(f"{network}/{layout}/")}
    model = build(network, layout, CLASSES, **TINY)
    set_theirs(model, {name: fill(name, array.shape) for name, array in theirs(model).items()})
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
    largest = golden["grad_norms"].max()
    for name, norm in zip(golden["grad_names"].tolist(), golden["grad_norms"].tolist()):
        if norm > 1e-5 * largest:  # biases in front of a BatchNorm have none
            assert np.linalg.norm(found[name]) == pytest.approx(norm, rel=1e-3), name


@pytest.mark.parametrize(("network", "layout"), PARAMETERS)
def test_networks_have_the_published_number_of_parameters(network, layout):
    """We lack the biases in front of BatchNorms, which change nothing; counted with them the numbers agree."""
    model = build(network, layout, 60)
    counts = published_parameters(model)
    assert sum(counts.values()) == PARAMETERS[network, layout]
    ours = sum(p.size for p in model.parameters() if not p.stop_gradient)
    absorbed = {
        name for link in link_model(model) if link.ours and link.ours[0].endswith("_mean") for name in link.theirs
    }
    assert PARAMETERS[network, layout] - ours == sum(counts.get(name, 0) for name in absorbed)


def tiny_options(network):
    return {"base_channels": 12, "num_gcn_scales": 4, "num_g3d_scales": 3} if network == "msg3d" else TINY


@pytest.mark.parametrize("network", NETWORKS)
def test_a_round_trip_to_their_names_changes_nothing(network):
    model = build(network, "coco", 7, **tiny_options(network))
    state = {name: fill(name, tensor.shape) for name, tensor in arrays(model).items()}
    links = link_model(model)
    back = load_links(links, save_links(links, state))
    assert all(np.array_equal(state[name], back[name]) for name in state)


# ---- the published weights themselves (skipped without them) ----


def reference_state(path):
    file = np.load(path)
    return file, {name[6:]: file[name] for name in file.files if name.startswith("state/")}


@pytest.mark.parametrize(("network", "layout"), [("stgcnpp", "coco"), ("stgcnpp", "nturgb+d"), ("dgstgcn", "nturgb+d")])
def test_full_networks_give_the_reference_logits(reference, network, layout):
    file, state = reference_state(reference / "ref" / f"{network}_{LAYOUTS[layout]}.npz")
    model = build(network, layout, 60)
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
    options = {key: config["backbone"][key] for key in tiny_options(network)}
    model = build(network, layout, config["cls_head"]["num_classes"], **options)
    set_theirs(model, state)
    for name, array in theirs(model).items():  # constants of theirs that we do not load
        if name == "backbone.A":
            np.testing.assert_allclose(array, state[name], atol=1e-7)
    model.eval()
    assert difference(model(paddle.to_tensor(file["x"])).numpy(), file["logits_eval"]) < 1e-4
    # a pre-activation may sit at a tie of a ReLU or a max pooling, which a last bit tips over: of inputs that are equal
    # but for the last bit, one has the reference's gradients
    for trial in range(6):
        far = train_like_the_reference(model, file, state, trial)
        if not far:
            break
    assert not far, far


def train_like_the_reference(model, file, state, trial):
    """Check a training step but for the gradients; return those that are not the reference's, with their errors."""
    set_theirs(model, state)
    model.clear_gradients()
    counts = elements_of_batch_norms(model)
    model.train()
    noise = np.random.RandomState(trial).randn(*file["x"].shape) * (1e-7 if trial else 0)
    logits = model(paddle.to_tensor((file["x"] * (1 + noise)).astype(np.float32)))
    loss = F.cross_entropy(logits, paddle.to_tensor(file["labels"]))
    loss.backward()
    assert difference(logits.numpy(), file["logits_train"]) < 1e-4
    assert float(loss) == pytest.approx(float(file["loss_train"]), rel=1e-5)
    check_statistics(model, file, counts)
    found = gradients(model)
    names = [name for name in file.files if name.startswith("grad/") and np.abs(file[name]).max() > 1e-6]
    errors = {name: difference(found[name[5:]], file[name]) for name in names}
    return {name: error for name, error in errors.items() if error >= 1e-3}


def elements_of_batch_norms(model):
    """Name of each BatchNorm -> values a channel it averages over in the next forward pass."""
    counts = {}

    def record(name):
        return lambda layer, given: counts.update({name: given[0].size // given[0].shape[1]})

    for name, layer in model.named_sublayers():
        if isinstance(layer, (paddle.nn.BatchNorm1D, paddle.nn.BatchNorm2D)):
            layer.register_forward_pre_hook(record(name))
    return counts


def check_statistics(model, file, counts):
    """After one training step: means equal, and variances up to (n - 1) / n, since Paddle keeps the biased one."""
    ours = arrays(model)
    for link in link_model(model):
        if not link.ours or not link.ours[0].endswith(("_mean", "_variance")):
            continue
        layer, key = link.ours[0].rsplit(".", 1)
        before = [file[f"state/{name}"] for name in link.theirs]
        after = [file[f"after_train_fwd/{n}"] if "running" in n else file[f"state/{n}"] for n in link.theirs]
        (expected,), (old,) = link.load(*after), link.load(*before)
        if key == "_variance":
            expected = 0.9 * old + (expected - 0.9 * old) * (counts[layer] - 1) / counts[layer]
        scale = max(1.0, np.abs(expected).max())
        np.testing.assert_allclose(ours[link.ours[0]], expected, rtol=2e-4, atol=2e-5 * scale, err_msg=layer)


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
