// The extension wavenet.engine._native; wavenet/engine/native.py is what Python uses.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/unique_ptr.h>
#include <nanobind/stl/vector.h>

#include <chrono>
#include <map>
#include <optional>
#include <stdexcept>

#include "engine.h"
#include "outputs.h"

namespace nb = nanobind;
using namespace wavenet;

namespace {

template <class T, int DIMENSIONS>
using Array = nb::ndarray<T, nb::ndim<DIMENSIONS>, nb::c_contig, nb::device::cpu>;
using Coins = Array<const double, 2>;
using Codes = Array<const std::int64_t, 2>;

Sampling sampling_of(double temperature, bool greedy, int top_k, double top_p) {
    Sampling sampling;
    sampling.temperature = temperature;
    sampling.greedy = greedy;
    sampling.top_k = top_k;
    sampling.top_p = top_p;
    return sampling;
}

// The samples [first, last) of arrays [B][n], and what is told from `offset` on.
Request request_of(std::size_t n, std::size_t first, std::size_t last, const Told* told, std::size_t offset) {
    if (first > last || last > n) throw std::invalid_argument("these samples are not in the arrays");
    Request request;
    request.length = n;
    request.first = first;
    request.samples = last - first;
    request.told = told;
    request.offset = offset;
    return request;
}

Output output_of(const std::string& name) {
    if (name == "logistic") return Output::LOGISTIC;
    return name == "gaussian" ? Output::GAUSSIAN : Output::MU_LAW;
}

constexpr auto SIGNALS = std::chrono::milliseconds(40);  // between looks for Ctrl-C, which need the interpreter's lock

// Runs without the interpreter's lock, but for those looks. Signals come to Python's main thread only, so that other
// threads need not look.
void run(Engine& engine, State& state, const Request& request) {
    const nb::module_ threading = nb::module_::import_("threading");
    const bool listens = threading.attr("current_thread")().is(threading.attr("main_thread")());
    bool interrupted = false;
    {
        nb::gil_scoped_release unlocked;
        auto looked = std::chrono::steady_clock::now();
        engine.run(state, request, [&] {
            const auto now = std::chrono::steady_clock::now();
            if (!listens || now - looked < SIGNALS) return false;
            looked = now;
            nb::gil_scoped_acquire locked;
            return interrupted = PyErr_CheckSignals() != 0;
        });
    }
    if (interrupted) throw nb::python_error();
}

std::unique_ptr<Engine> create(const nb::dict& shape, const nb::dict& weights, const std::string& precision,
                               int threads) {
    Config config;
    const auto number = [&](const char* name) { return nb::cast<int>(shape[name]); };
    config.kernel = number("kernel");
    config.residual = number("residual");
    config.gate = number("gate");
    config.skip = number("skip");
    config.head = number("head");
    config.rows = number("rows");
    config.output = output_of(nb::cast<std::string>(shape["output"]));
    config.parts = number("parts");
    config.order = number("order");
    config.pitch_taps = number("pitch_taps");
    config.pitch_reach = number("pitch_reach");
    config.conditioned = nb::cast<bool>(shape["conditioned"]);
    config.hop = number("hop");
    config.silence = number("silence");
    config.outputs = number("outputs");
    config.dilations = nb::cast<std::vector<int>>(shape["dilations"]);
    std::map<std::string, nb::ndarray<const float, nb::c_contig, nb::device::cpu>> tensors;
    for (auto [name, tensor] : weights)
        tensors[nb::cast<std::string>(name)] =
            nb::cast<nb::ndarray<const float, nb::c_contig, nb::device::cpu>>(tensor);
    const auto tensor = [&](const std::string& name) { return tensors.at(name).data(); };
    nb::gil_scoped_release unlocked;
    return make_engine(config, tensor, precision, threads);
}

}  // namespace

NB_MODULE(_native, m) {
    nb::set_leak_warnings(false);  // at exit, objects of the main module are often still there
    nb::class_<State>(m, "State")
        .def("copy", &State::copy, nb::keep_alive<0, 1>())
        .def_prop_ro("position", &State::position)
        .def("last_codes", [](const State& state, Array<std::int64_t, 1> codes) { state.last_codes(codes.data()); });

    nb::class_<Told>(m, "Told");

    nb::class_<Engine>(m, "Engine")
        .def("new_state", &Engine::new_state, nb::arg("streams"), nb::keep_alive<0, 1>())
        .def(
            "told",
            [](const Engine& engine, Array<const float, 4> rows, std::optional<Array<const double, 3>> predictors) {
                return std::make_unique<Told>(engine.config(), int(rows.shape(0)), int(rows.shape(1)), rows.data(),
                                              predictors ? predictors->data() : nullptr);
            },
            nb::arg("rows"), nb::arg("predictors").none())
        .def(
            "generate",
            [](Engine& engine, State& state, std::size_t first, std::size_t last, const Told* told, std::size_t offset,
               Coins coins, double temperature, bool greedy, int top_k, double top_p, Array<std::int64_t, 2> drawn) {
                Request request = request_of(coins.shape(1), first, last, told, offset);
                request.coins = coins.data();
                request.drawn = drawn.data();
                request.sampling = sampling_of(temperature, greedy, top_k, top_p);
                run(engine, state, request);
            },
            nb::arg("state"), nb::arg("first"), nb::arg("last"), nb::arg("told").none(), nb::arg("offset"),
            nb::arg("coins"), nb::arg("temperature"), nb::arg("greedy"), nb::arg("top_k"),
            nb::arg("top_p"), nb::arg("drawn"))
        .def(
            "feed",
            [](Engine& engine, State& state, std::size_t first, std::size_t last, const Told* told, std::size_t offset,
               Codes codes) {
                Request request = request_of(codes.shape(1), first, last, told, offset);
                request.given = codes.data();
                run(engine, state, request);
            },
            nb::arg("state"), nb::arg("first"), nb::arg("last"), nb::arg("told").none(), nb::arg("offset"),
            nb::arg("codes"))
        .def(
            "logits",
            [](Engine& engine, State& state, std::size_t first, std::size_t last, const Told* told, std::size_t offset,
               Codes codes, Array<float, 3> logits) {
                Request request = request_of(codes.shape(1), first, last, told, offset);
                request.given = codes.data();
                request.logits = logits.data();
                run(engine, state, request);
            },
            nb::arg("state"), nb::arg("first"), nb::arg("last"), nb::arg("told").none(), nb::arg("offset"),
            nb::arg("codes"), nb::arg("logits"))
        .def("peak", &Engine::peak, nb::call_guard<nb::gil_scoped_release>())
        .def_prop_ro("kernels", &Engine::kernels);

    m.def("create", &create, nb::arg("shape"), nb::arg("weights"), nb::arg("precision"), nb::arg("threads"));
    m.def("kernels", [] {
        const char* names[8];
        return std::vector<std::string>(names, names + available_kernels(names, 8));
    });
    m.def(
        "draw",
        [](Array<const float, 2> logits, Array<const double, 1> coins, double temperature, bool greedy, int top_k,
           double top_p, Array<std::int64_t, 1> drawn) {
            Sampler sampler(int(logits.shape(1)));
            for (std::size_t row = 0; row < logits.shape(0); ++row) {
                drawn.data()[row] =
                    sampler.draw(chosen_kernels(), logits.data() + row * logits.shape(1), coins.data()[row],
                                 sampling_of(temperature, greedy, top_k, top_p));
            }
        },
        nb::arg("logits"), nb::arg("coins"), nb::arg("temperature"), nb::arg("greedy"), nb::arg("top_k"),
        nb::arg("top_p"), nb::arg("drawn"));
    m.def(
        "draw_linear",
        [](const std::string& output, Array<const float, 2> numbers, Array<const double, 1> coins, double temperature,
           bool greedy, double top_p, Array<std::int64_t, 1> drawn) {
            const int width = int(numbers.shape(1));
            LinearSampler sampler(output_of(output), output == "logistic" ? width / 3 : 1);
            for (std::size_t row = 0; row < numbers.shape(0); ++row)
                drawn.data()[row] = sampler.draw(numbers.data() + row * width, coins.data()[row],
                                                 sampling_of(temperature, greedy, 0, top_p));
        },
        nb::arg("output"), nb::arg("numbers"), nb::arg("coins"), nb::arg("temperature"), nb::arg("greedy"),
        nb::arg("top_p"), nb::arg("drawn"));
}
