"""What the run layer promises, against theorems, quadrature and independent implementations."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from genpath.codecs import Dequantise, Identity, Standardise
from genpath.config.schema import Config, TrainOptions
from genpath.datasets import Dataset
from genpath.errors import CapabilityError, ComponentLoadError, ConfigError
from genpath.evaluation import Findings, Scene, Text
from genpath.evaluations import (
    GaussianBaseline,
    Images,
    KernelBaseline,
    Nearest,
    NegativeLogLikelihood,
)
from genpath.grids import TimeGrid
from genpath.laws import Gaussian
from genpath.likelihoods import ODELikelihood
from genpath.models import ODE, Model
from genpath.networks import MLP, mlp
from genpath.predictions import Prediction
from genpath.run import derive_seed, generator_for
from genpath.run.assembly import assemble
from genpath.run.folder import Run
from genpath.run.progress import Display
from genpath.run.report import write_report
from genpath.run.stages import write_findings
from genpath.run.tables import metric_rows
from genpath.run.training import Trainer, learning_rate
from genpath.samplers import RungeKutta, Solver
from genpath.spaces import Euclidean, Product
from genpath.tableaus import RK4

from .test_run_toys import Straight, normal_rows, quiet, toy_config, toy_world


@pytest.fixture(autouse=True)
def world() -> Iterator[None]:
    with toy_world():
        yield


class TestSeeds:
    def test_the_half_that_mt19937_reads_differs_for_all_steps(self) -> None:
        count = 200_000
        low = {derive_seed(3, "train", step) & 0xFFFFFFFF for step in range(count)}
        assert len(low) == count
        # the control: independent 32-bit words would collide (expected count²/2³³ = 4.7 pairs)
        hashed = {
            int.from_bytes(hashlib.sha256(f"3/train/{step}".encode()).digest()[:4], "big")
            for step in range(count)
        }
        assert len(hashed) < count

    def test_purposes_and_seeds_have_their_own_streams(self) -> None:
        keys = [(s, p, k) for s in (0, 1) for p in ("train", "sample") for k in (0, 1)]
        draws = [torch.rand(4, generator=generator_for(*key)) for key in keys]
        assert len({tuple(draw.tolist()) for draw in draws}) == len(keys)

    def test_first_draws_of_neighbouring_steps_are_uncorrelated(self) -> None:
        u = torch.stack(
            [torch.rand(2, generator=generator_for(0, "train", k)) for k in range(4000)]
        )
        u = u.double()
        for a, b in ((u[:-1, 0], u[1:, 0]), (u[:, 0], u[:, 1])):
            z = float(((a - 0.5) * (b - 0.5)).mean() * 12 * math.sqrt(len(a)))
            assert abs(z) < 4.5
        z = float((u[:, 0].mean() - 0.5) * math.sqrt(12 * len(u)))
        assert abs(z) < 4.5


class TestLearningRate:
    OPTIONS = TrainOptions(steps=100, lr=0.5, warmup=20, final_lr_fraction=0.1)

    def test_ends_and_middle(self) -> None:
        found = [learning_rate(self.OPTIONS, k) for k in (1, 20, 60, 100)]
        assert found == pytest.approx([0.025, 0.5, 0.275, 0.05])

    def test_it_is_torch_s_cosine(self) -> None:
        parameter = torch.nn.Parameter(torch.zeros(1))
        optimizer = torch.optim.SGD([parameter], lr=0.5)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=80, eta_min=0.05)
        for step in range(21, 101):
            optimizer.step()
            schedule.step()
            assert learning_rate(self.OPTIONS, step) == pytest.approx(schedule.get_last_lr()[0])

    def test_a_constant_stays(self) -> None:
        options = replace(self.OPTIONS, schedule="constant")
        assert {learning_rate(options, k) for k in range(20, 101)} == {0.5}


def trainer(*overrides: str, folder: Any) -> Trainer:
    config = toy_config(*overrides)
    return Trainer(Run(config, folder, quiet(), Display(quiet())))


class TestTraining:
    def test_the_average_is_the_weighted_sum_of_all_weights(self, tmp_path: Any) -> None:
        t = trainer("train.ema=0.5", folder=tmp_path)
        start = {n: w.double().clone() for n, w in t.network.state_dict().items()}
        history = [start]
        for _ in range(6):
            t.advance()
            history.append({n: w.double().clone() for n, w in t.network.state_dict().items()})
        decays = [min(0.5, (1 + k) / (10 + k)) for k in range(1, 7)]
        weights = [math.prod(decays)]
        weights += [(1 - d) * math.prod(decays[k + 1 :]) for k, d in enumerate(decays)]
        assert sum(weights) == pytest.approx(1)
        name = "last.weight"
        expected = sum(w * h[name] for w, h in zip(weights, history, strict=True))
        assert t.average is not None
        error = float((t.average[name].double() - expected).abs().max())  # type: ignore[union-attr]
        assert error < 1e-6 < float((history[-1][name] - expected).abs().max())  # and the control

    def test_one_step_is_adam_s_on_the_mean_objective(self, tmp_path: Any) -> None:
        t = trainer("train.clip=null", "network.dropout=0.0", folder=tmp_path)
        twin = assemble(toy_config("network.dropout=0.0"))
        optimizer = torch.optim.AdamW(
            twin.network.parameters(),
            lr=learning_rate(t.options, 1),
            weight_decay=0.0,
            foreach=False,
        )
        from genpath.objectives import stratified_times

        rng = generator_for(11, "train", 1)
        times = stratified_times(32, rng)
        pairs = twin.coupling.pairs(32, rng)
        x = torch.lerp(pairs.x0, pairs.x1, times[:, None])  # type: ignore[arg-type]
        error = twin.network(times, x) - (pairs.x1 - pairs.x0)  # type: ignore[operator]
        loss = 0.5 * error.square().sum(1).mean()
        loss.backward()
        optimizer.step()
        t.network.train()
        t.advance()
        assert float(t.check()[0, 0]) == pytest.approx(float(loss.detach()), rel=1e-6)
        for a, b in zip(t.network.parameters(), twin.network.parameters(), strict=True):
            assert torch.allclose(a, b, atol=1e-7)

    def test_clipping_bounds_what_the_optimiser_sees(self, tmp_path: Any) -> None:
        t = trainer("train.clip=0.01", folder=tmp_path)
        t.advance()
        norm = torch.stack(
            [p.grad.square().sum() for p in t.network.parameters() if p.grad is not None]
        )
        assert float(norm.sum().sqrt()) == pytest.approx(0.01, rel=1e-3)
        assert float(t.check()[0, 1]) > 0.1  # the norm that is logged is the one before clipping

    def test_validation_is_the_same_twice_and_moves_with_the_weights(self, tmp_path: Any) -> None:
        t = trainer(folder=tmp_path)
        first, second = t.validate(), t.validate()
        t.network.train()
        for _ in range(5):
            t.advance()
        assert first == second != t.validate()
        # zero at the start: ½E‖x1 − x0‖² = ½(2 + E‖x1‖²), 64 rows, standard error about 0.25
        assert first == pytest.approx(2.0, abs=1.0)

    def test_the_best_weights_are_kept(self, tmp_path: Any) -> None:
        t = trainer("train.ema=null", folder=tmp_path)
        t.network.train()
        for _ in range(30):
            t.advance()
        best = t.validate()
        kept = {n: w.clone() for n, w in t.network.state_dict().items()}
        with torch.no_grad():
            for p in t.network.parameters():
                p.add_(1.0)
        assert t.validate() > best
        assert t.best is not None and all(torch.equal(t.best[n], kept[n]) for n in kept)

    def test_amp_changes_the_arithmetic_and_not_the_weights_type(self, tmp_path: Any) -> None:
        losses = []
        for amp in ("false", "true"):
            t = trainer(f"train.amp={amp}", folder=tmp_path)
            t.network.train()
            for _ in range(3):
                t.advance()
            losses.append(float(t.check()[-1, 0]))
            assert all(p.dtype == torch.float32 for p in t.network.parameters())
        assert losses[0] != losses[1] and losses[0] == pytest.approx(losses[1], rel=0.05)

    def test_double_precision_reaches_weights_and_states(self) -> None:
        found = assemble(toy_config("precision=float64"))
        assert {p.dtype for p in found.network.parameters()} == {torch.float64}
        assert found.data.train.dtype == torch.float64
        assert torch.get_default_dtype() == torch.float32


def scene(model: Model, data: Dataset, samples: Any = None, likelihood: Any = None) -> Scene:
    solver = Solver(RungeKutta(RK4), TimeGrid.uniform(4))
    rng, device = torch.Generator().manual_seed(0), torch.device("cpu")
    return Scene(model, data, samples, ODE(), solver, likelihood, rng, device)


def model_on(data: Dataset, codec: Any, field: Any = None) -> Model:
    path = Straight(codec.space(data.space))
    return Model(field or torch.nn.Identity(), path, Gaussian((2,)), "velocity", codec)


class TestLikelihoods:
    def test_nll_of_an_exact_model(self) -> None:
        """x0 = x1 a.s. under the zero field: the model is the base law, whose entropy is known."""
        rows = torch.randn(3000, 2, generator=torch.Generator().manual_seed(1))
        data = Dataset("n", Euclidean(2), rows, rows, rows, "made", bits_per=("dimension", 2))
        model = model_on(data, Identity(), lambda t, x: 0 * x)
        likelihood = ODELikelihood(steps=2)
        found = NegativeLogLikelihood()(scene(model, data, likelihood=likelihood)).metrics
        entropy = 1 + math.log(2 * math.pi)
        z = (found["test/nll"] - entropy) / found["test/nll_se"]
        assert abs(z) < 4.5
        assert found["test/nll_se"] == pytest.approx(1 / math.sqrt(3000), rel=0.1)  # var of χ²₂/2
        assert found["test/bits_per_dimension"] * 2 * math.log(2) == pytest.approx(
            found["test/nll"]
        )
        # the control: ẋ = x/2 ends in N(0, e I), whose cross-entropy is ½ e⁻¹ E|x|² + log 2π + 1
        wide = model_on(data, Identity(), lambda t, x: 0.5 * x)
        wrong = NegativeLogLikelihood()(
            scene(wide, data, likelihood=ODELikelihood(steps=8))
        ).metrics
        assert wrong["test/nll"] - entropy == pytest.approx(math.exp(-1), abs=0.1)
        assert wrong["test/nll"] - entropy > 4.5 * wrong["test/nll_se"]
        same = NegativeLogLikelihood(max_examples=10)(scene(model, data, likelihood=likelihood))
        assert "10 test examples" in same.measured["test/nll"]

    def test_the_kernel_baseline_integrates_to_one(self) -> None:
        data = normal_rows(80)
        grid = torch.cartesian_prod(torch.linspace(-4, 6, 201), torch.linspace(-14, 10, 481))
        wide = replace(data, test=grid)
        world = scene(model_on(wide, Standardise.fit(data.train)), wide)
        baseline = KernelBaseline(bandwidths=5, smallest=0.1, chunk=5000)
        caught: list[Tensor] = []
        import genpath.evaluations as evaluations

        real = evaluations.scored
        try:
            evaluations.scored = lambda p, v, *more: (caught.append(v), real(p, v, *more))[1]
            baseline(world)
        finally:
            evaluations.scored = real
        mass = float(torch.exp(-caught[0]).sum() * 0.05 * 0.05)
        assert mass == pytest.approx(1, abs=1e-3)

    def test_the_kernel_baseline_chooses_a_bandwidth_inside_its_grid(self) -> None:
        data = normal_rows()
        found = KernelBaseline()(scene(model_on(data, Standardise.fit(data.train)), data))
        entropy = 1 + math.log(2 * math.pi)
        assert (
            found.metrics["baseline-kernel/nll"]
            > entropy - 4.5 * found.metrics["baseline-kernel/nll_se"]
        )
        coarse = KernelBaseline(smallest=0.01, largest=0.011, bandwidths=2)
        worse = coarse(scene(model_on(data, Standardise.fit(data.train)), data))
        assert worse.metrics["baseline-kernel/nll"] > found.metrics["baseline-kernel/nll"] + 0.5

    def test_the_ridge_widens_a_flat_cloud(self) -> None:
        """Rows ±(3, 3): variances 18 and 0, and 0.01 of the mean variance 9 is added to both."""
        rows = torch.tensor([[3.0, 3.0], [-3.0, -3.0]])
        data = replace(normal_rows(), train=rows, test=torch.zeros(2, 2))
        found = GaussianBaseline(ridge=0.01)(scene(model_on(data, Identity()), data)).metrics
        exact = math.log(2 * math.pi) + 0.5 * math.log(18.09 * 0.09)
        assert found["baseline/nll"] == pytest.approx(exact, abs=1e-5)

    def test_baselines_refuse_letters(self) -> None:
        data = replace(normal_rows(), space=Product({"x": Euclidean(2)}))
        rows = {"x": data.train}
        data = replace(data, train=rows, validation=rows, test=rows)
        with pytest.raises(CapabilityError, match="it is a density on R"):
            GaussianBaseline()(
                scene(Model(lambda t, x: x, Straight(Euclidean(2)), Gaussian((2,))), data)
            )


class TestLooks:
    def test_the_nearest_row_is_the_one_that_a_loop_finds(self) -> None:
        data = normal_rows()
        found = Nearest(max_examples=20)(scene(model_on(data, Identity()), data, data.validation))
        expected = [
            min(math.dist(a, b) for b in data.train.tolist()) for a in data.validation[:20].tolist()
        ]
        assert found.metrics["nearest/samples"] == pytest.approx(sum(expected) / 20, rel=1e-5)

    def test_the_sheet_puts_every_picture_in_its_place(self) -> None:
        pictures = torch.arange(12.0).reshape(6, 2)
        sheet = Images(height=1, width=2, rows=2, columns=3)._sheet(pictures)
        assert sheet.shape == (3, 8)
        assert sheet[0, [0, 1, 3, 4, 6, 7]].tolist() == [0, 1, 2, 3, 4, 5]
        assert sheet[2, [0, 1, 3, 4, 6, 7]].tolist() == [6, 7, 8, 9, 10, 11]

    @pytest.mark.parametrize("count", [2, 20])
    def test_a_sheet_takes_fewer_pictures_or_more(self, count: int) -> None:
        pictures = torch.arange(2.0 * count).reshape(count, 2) + 1
        evaluation = Images(height=1, width=2, rows=2, columns=3, low=0.0, high=0.5)
        sheet = evaluation._sheet(pictures)
        seen = sheet[::2][:, [0, 1, 3, 4, 6, 7]].reshape(6, 2)
        assert torch.equal(seen[:count], pictures[:6])
        assert bool((seen[count:] == 0.25).all()) and bool((sheet[1] == 0.25).all())
        data = normal_rows()
        found = evaluation(scene(model_on(data, Identity()), data, data.train)).figures[0]
        assert found.size == (9.0, pytest.approx(2.0))  # sheets of 2 × 6 pixels, side by side

    def test_as_many_pairs_are_shown_as_there_are(self) -> None:
        from matplotlib.figure import Figure as Canvas

        data = normal_rows()
        for shown, count in ((3, 3), (8, 5)):
            evaluation = Nearest(height=1, width=2, shown=shown)
            world = scene(model_on(data, Identity()), data, data.train[:5])
            figure = evaluation(world).figures[0]
            canvas = Canvas()
            figure.draw(canvas)
            pictures = [axes.images[0].get_array().tolist() for axes in canvas.axes]
            assert len(pictures) == 2 * count and figure.size[0] == pytest.approx(1.1 * count)
            assert pictures[:count] == pictures[count:]  # the samples are training rows

    def test_a_sheet_of_the_wrong_size_is_refused(self) -> None:
        data = normal_rows()
        with pytest.raises(ConfigError, match="height × width is the number of entries"):
            Images(height=3, width=3)(scene(model_on(data, Identity()), data, data.train))


class TestDigits:
    def test_what_they_are(self) -> None:
        from genpath.data import digits

        data = digits()
        splits = (data.train, data.validation, data.test)
        assert [tuple(x.shape[1:]) for x in splits] == [(64,)] * 3
        assert sum(len(x) for x in splits) == 1797
        rows = torch.cat(splits)
        assert rows.min() == 0 and rows.max() == 16 and torch.equal(rows, rows.round())
        seen = [{tuple(row) for row in x.tolist()} for x in splits]
        assert not (seen[0] & seen[1]) | (seen[0] & seen[2]) | (seen[1] & seen[2])
        state, _ = Dequantise(17).encode(rows, torch.Generator())
        assert torch.equal(Dequantise(17).decode(state), rows)
        assert data.bits_per == ("dimension", rows[0].numel())

    def test_without_scikit_learn(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import sys

        from genpath.data import digits

        monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
        with pytest.raises(ComponentLoadError, match=r'pip install "genpath\[data\]"'):
            digits()


def network(event: tuple[int, ...] = (2,), out: tuple[int, ...] = (2,), **more: Any) -> MLP:
    options: dict[str, Any] = dict(
        width=16,
        depth=2,
        time_features=4,
        fourier=0,
        fourier_scale=1.0,
        scales=(),
        dropout=0.0,
        raw=True,
    )
    prediction = Prediction("velocity", out, True, "E[ẋ | x]")
    return mlp(**(options | more), space=Euclidean(*event), prediction=prediction)


class TestNetwork:
    @pytest.mark.parametrize(
        ("event", "out"), [((), ()), ((3,), (5,)), ((2, 4), (2, 4)), ((1, 2, 3), (7,))]
    )
    @pytest.mark.parametrize("fourier", [0, 3])
    def test_shapes(self, event: tuple[int, ...], out: tuple[int, ...], fourier: int) -> None:
        for rows in (0, 1, 5):
            found = network(event, out, fourier=fourier)(torch.rand(rows), torch.rand(rows, *event))
            assert found.shape == (rows, *out)

    def test_it_starts_at_zero_and_uses_time_and_state(self) -> None:
        net = network(fourier=4, scales=(0.3, 2.0))
        x, t = torch.randn(6, 2), torch.rand(6)
        assert not net(t, x).any()
        torch.nn.init.normal_(net.last.weight)
        base = net(t, x)
        assert (net(t.flip(0), x) - base).abs().min() > 1e-6
        assert (net(t, x.flip(0)) - base).abs().min() > 1e-6

    def test_without_the_raw_state_it_is_periodic_in_one_frequency(self) -> None:
        net = network((1,), (1,), fourier=1, raw=False)
        torch.nn.init.normal_(net.last.weight)
        assert net.fourier is not None
        period = 2 * math.pi / float(net.fourier.frequencies)
        x, t = torch.randn(5, 1), torch.rand(5)
        assert torch.allclose(net(t, x), net(t, x + period), atol=1e-4)
        assert not torch.allclose(net(t, x), net(t, x + period / 2), atol=1e-2)

    def test_weights_follow_from_the_seed_alone(self) -> None:
        torch.manual_seed(1)
        a = assemble(toy_config()).network.state_dict()
        torch.manual_seed(2)
        b = assemble(toy_config()).network.state_dict()
        c = assemble(toy_config("seed=12")).network.state_dict()
        assert all(torch.equal(a[n], b[n]) for n in a)
        assert not torch.equal(a["first.weight"], c["first.weight"])

    def test_frequencies_have_the_scale_that_was_asked_for(self) -> None:
        torch.manual_seed(0)
        net = network(fourier=4000, scales=(0.5, 3.0))
        assert net.fourier is not None
        std = net.fourier.frequencies.reshape(2, 2, 4000).std(dim=(0, 2)) / (2 * math.pi)
        assert std.tolist() == pytest.approx([0.5, 3.0], rel=0.05)

    def test_a_product_is_refused(self) -> None:
        prediction = Prediction("velocity", (2,), True, "")
        with pytest.raises(CapabilityError, match="states and predictions are one tensor each"):
            mlp(8, 1, 4, 0, 1.0, (), 0.0, True, Product({"x": Euclidean(2)}), prediction)


def test_baselines_stand_beside_ours() -> None:
    metrics = {
        "test/nll": 2.0,
        "baseline/nll": 3.0,
        "baseline-kernel/nll": 2.5,
        "baseline/other": 1.0,
    }
    rows = {row.name: row for row in metric_rows(metrics, {"baseline/nll": "one Gaussian"})}
    assert set(rows) == {"test/nll", "baseline/other"}
    assert rows["test/nll"].baseline == "3, 2.5 (kernel)"
    assert rows["test/nll"].baseline_measured == "baseline: one Gaussian"


class TestSplits:
    def test_a_row_on_a_border_is_in_one_split(self) -> None:
        """The hash of b"1" begins with 0x6b86b273ff34fce1: at that share the row is on the edge."""
        from genpath.datasets import hash_split

        edge = 0x6B86B273FF34FCE1 / 2**64
        for fractions, split in (((edge, 0.2), 1), ((0.25, edge - 0.25), 2), ((0.9, 0.05), 0)):
            sizes = [len(index) for index in hash_split([b"1"], fractions)]
            assert sizes == [int(number == split) for number in range(3)]


class TestARunWithoutData:
    """A stage may need no model: the run then has a device and randomness, and a report."""

    def run(self, folder: Any) -> Run:
        console = quiet()
        return Run(Config(seed=3, device="cpu", stages=()), folder, console, Display(console))

    def test_it_has_a_device_and_its_own_randomness(self, tmp_path: Any) -> None:
        run = self.run(tmp_path)
        assert run.device == torch.device("cpu")
        expected = generator_for(3, "compose", 0, torch.device("cpu"))
        assert torch.equal(
            torch.rand(4, generator=run.rng("compose")), torch.rand(4, generator=expected)
        )

    def test_its_findings_are_reported(self, tmp_path: Any) -> None:
        run = self.run(tmp_path)
        found = Findings({"odd/number": 3.0}, {"odd/number": "counted"}, (), (Text("It", "ran"),))
        write_findings(run, "odd", found, [])
        write_report(run)
        page = (tmp_path / "report.html").read_text(encoding="utf-8")
        assert "odd/number" in page and "ran" in page and "Data:" not in page

    def test_a_stage_replaces_its_own_numbers_only(self, tmp_path: Any) -> None:
        run = self.run(tmp_path)
        write_findings(run, "one", Findings({"a": 1.0, "b": 2.0}), [])
        write_findings(run, "two", Findings({"c": 3.0}), [])
        write_findings(run, "one", Findings({"a": 5.0}), [])
        assert run.metrics()["metrics"] == {"a": 5.0, "c": 3.0}
