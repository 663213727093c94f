// The extension module wavenet.engine._native, used by wavenet/engine/native.py. Only it and the other binding_*.cpp
// depend on Python.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/unique_ptr.h>
#include <nanobind/stl/vector.h>

#include <chrono>
#include <condition_variable>
#include <map>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <thread>

#ifdef _WIN32
#include <process.h>
#define getpid _getpid
#else
#include <unistd.h>
#endif

#include "binding.h"
#include "continuous_sampling.h"
#include "engine.h"

namespace nb = nanobind;
using namespace wavenet;

void bind_conditioning(nb::module_& m);  // binding_conditioning.cpp

namespace {

// Handles calls that run without the interpreter's lock while the interpreter exits. From then on, it ends every other
// thread that requests the lock by unwinding its stack, which in C++ ends the whole process. So such a thread must not
// request it: before the interpreter exits, `close` waits until each has either returned or been parked permanently.
class Exit {
public:
    static Exit& current() {  // with the interpreter's lock
        static Exit* exit = nullptr;
        if (!exit || exit->process_ != getpid()) exit = new Exit;  // a forked process has none of the old one's threads
        return *exit;                                              // never deleted: parked threads wait on it
    }

    void leave_python() {
        const std::lock_guard lock(mutex_);
        ++outside_;
    }
    // Returns if the thread may request the interpreter's lock; otherwise it never returns.
    void before_return() {
        std::unique_lock lock(mutex_);
        if (!closed_ || std::this_thread::get_id() == closer_) return;
        --outside_;
        changed_.notify_all();
        changed_.wait(lock, [] { return false; });
    }
    void returned() {
        const std::lock_guard lock(mutex_);
        --outside_;
        changed_.notify_all();
    }
    bool closed() {
        const std::lock_guard lock(mutex_);
        return closed_ && std::this_thread::get_id() != closer_;
    }
    void close() {
        {
            const std::lock_guard lock(mutex_);
            closed_ = true;
            closer_ = std::this_thread::get_id();
        }
        nb::gil_scoped_release unlocked;
        std::unique_lock lock(mutex_);  // released before the interpreter's lock is taken again
        changed_.wait(lock, [&] { return outside_ == 0; });
    }

private:
    const int process_ = getpid();
    std::mutex mutex_;
    std::condition_variable changed_;
    int outside_ = 0;  // threads without the interpreter's lock that will request it
    bool closed_ = false;
    std::thread::id closer_;
};

// Releases the interpreter's lock for the lifetime of this object.
class Unlocked {
public:
    Unlocked() : exit_(Exit::current()) {
        exit_.leave_python();
        thread_ = PyEval_SaveThread();
    }
    ~Unlocked() {
        exit_.before_return();
        PyEval_RestoreThread(thread_);
        exit_.returned();
    }
    Unlocked(const Unlocked&) = delete;
    Unlocked& operator=(const Unlocked&) = delete;
    bool interpreter_exits() { return exit_.closed(); }

private:
    Exit& exit_;
    PyThreadState* thread_;
};

template <class T, int DIMENSIONS>
using Array = nb::ndarray<T, nb::ndim<DIMENSIONS>, nb::c_contig, nb::device::cpu>;
using Uniforms = Array<const double, 2>;  // and temperatures
using Codes = Array<const std::int64_t, 2>;
using Muted = std::optional<Array<const bool, 1>>;

Sampling make_sampling(double temperature, int top_k, double top_p) {
    Sampling sampling;
    sampling.temperature = temperature;
    sampling.top_k = top_k;
    sampling.top_p = top_p;
    return sampling;
}

// The samples [first, last) of arrays [B][n], with conditioning frames from `offset` on.
Request make_request(const Engine& engine, std::size_t n, std::size_t first, std::size_t last,
                     const ConditioningFrames* conditioning, std::size_t offset, const Muted& muted) {
    if (muted && muted->shape(0) != std::size_t(engine.config().layers()))
        throw std::invalid_argument("muted: for another number of layers");
    if (first > last || last > n) throw std::invalid_argument("these samples are not in the arrays");
    Request request;
    request.length = n;
    request.first = first;
    request.samples = last - first;
    request.conditioning = conditioning;
    request.offset = offset;
    request.muted = muted ? muted->data() : nullptr;
    return request;
}

Output parse_output(const std::string& name) {
    if (name == "logistic") return Output::LOGISTIC;
    return name == "gaussian" ? Output::GAUSSIAN : Output::MU_LAW;
}

constexpr auto SIGNAL_INTERVAL = std::chrono::milliseconds(40);  // between checks, which need the interpreter's lock

// Runs without the interpreter's lock. interruptible: whether this is Python's main thread, the only one in which
// signal handlers run.
void run(Engine& engine, State& state, const Request& request, bool interruptible) {
    bool interrupted = false;
    {
        Unlocked unlocked;
        auto checked = std::chrono::steady_clock::now();
        engine.run(state, request, [&] {
            if (!interruptible) return unlocked.interpreter_exits();
            const auto now = std::chrono::steady_clock::now();
            if (now - checked < SIGNAL_INTERVAL) return false;
            checked = now;
            nb::gil_scoped_acquire locked;
            return interrupted = PyErr_CheckSignals() != 0;
        });
    }
    if (interrupted) throw nb::python_error();
}

Config make_config(const nb::dict& dimensions) {
    const auto integer = [&](const char* name) { return nb::cast<int>(dimensions[name]); };
    Config config;
    config.kernel_size = integer("kernel_size");
    config.residual = integer("residual");
    config.gate = integer("gate");
    config.skip = integer("skip");
    config.head = integer("head");
    config.output = parse_output(nb::cast<std::string>(dimensions["output"]));
    config.components = integer("components");
    config.input_channels = integer("input_channels");
    config.prediction_order = integer("prediction_order");
    config.pitch_taps = integer("pitch_taps");
    config.pitch_reach = integer("pitch_reach");
    config.adaptation_hop = integer("adaptation_hop");
    config.adaptation_weights = nb::cast<std::vector<double>>(dimensions["adaptation_weights"]);
    config.conditioned = nb::cast<bool>(dimensions["conditioned"]);
    config.hop = integer("hop");
    config.silence = integer("silence");
    config.output_channels = integer("output_channels");
    config.dilations = nb::cast<std::vector<int>>(dimensions["dilations"]);
    return config;
}

std::unique_ptr<Engine> create(const nb::dict& dimensions, const nb::dict& weights, const std::string& precision,
                               int threads) {
    using Tensor = nb::ndarray<const float, nb::c_contig, nb::device::cpu>;
    const Config config = make_config(dimensions);
    std::map<std::string, Tensor> tensors;
    for (auto [name, tensor] : weights) tensors[nb::cast<std::string>(name)] = nb::cast<Tensor>(tensor);
    const Unlocked unlocked;
    return make_engine(config, [&](const std::string& name) { return tensors.at(name).data(); }, precision, threads);
}

}  // namespace

NB_MODULE(_native, m) {
    nb::set_leak_warnings(false);  // at exit, objects of the main module often still exist
    nb::module_::import_("atexit").attr("register")(nb::cpp_function([] { Exit::current().close(); }));

    nb::class_<State>(m, "State")
        .def("copy", &State::copy)
        .def_prop_ro("position", &State::position)
        .def(
            "last_codes", [](const State& state, Array<std::int64_t, 1> codes) { state.last_codes(codes.data()); },
            nb::arg("codes"))
        .def("assign", &State::assign, nb::arg("other"));

    bind_conditioning(m);

    nb::class_<Engine>(m, "Engine")
        .def("new_state", &Engine::new_state, nb::arg("streams"))
        .def(
            "generate",
            [](Engine& engine, State& state, std::size_t first, std::size_t last,
               const ConditioningFrames* conditioning, std::size_t offset, const Muted& muted, Uniforms uniforms,
               double temperature, std::optional<Uniforms> temperatures, int top_k, double top_p,
               Array<std::int64_t, 2> codes, bool interruptible) {
                Request request = make_request(engine, uniforms.shape(1), first, last, conditioning, offset, muted);
                request.uniforms = uniforms.data();
                request.drawn = codes.data();
                request.sampling = make_sampling(temperature, top_k, top_p);
                request.temperatures = temperatures ? temperatures->data() : nullptr;
                run(engine, state, request, interruptible);
            },
            nb::arg("state"), nb::arg("first"), nb::arg("last"), nb::arg("conditioning").none(), nb::arg("offset"),
            nb::arg("muted").none(), nb::arg("uniforms"), nb::arg("temperature"), nb::arg("temperatures").none(),
            nb::arg("top_k"), nb::arg("top_p"), nb::arg("codes"), nb::arg("interruptible"))
        .def(
            "feed",
            [](Engine& engine, State& state, std::size_t first, std::size_t last,
               const ConditioningFrames* conditioning, std::size_t offset, const Muted& muted, Codes codes,
               bool interruptible) {
                Request request = make_request(engine, codes.shape(1), first, last, conditioning, offset, muted);
                request.given = codes.data();
                run(engine, state, request, interruptible);
            },
            nb::arg("state"), nb::arg("first"), nb::arg("last"), nb::arg("conditioning").none(), nb::arg("offset"),
            nb::arg("muted").none(), nb::arg("codes"), nb::arg("interruptible"))
        .def(
            "logits",
            [](Engine& engine, State& state, std::size_t first, std::size_t last,
               const ConditioningFrames* conditioning, std::size_t offset, const Muted& muted, Codes codes,
               Array<float, 3> outputs, bool interruptible) {
                Request request = make_request(engine, codes.shape(1), first, last, conditioning, offset, muted);
                request.given = codes.data();
                request.outputs = outputs.data();
                run(engine, state, request, interruptible);
            },
            nb::arg("state"), nb::arg("first"), nb::arg("last"), nb::arg("conditioning").none(), nb::arg("offset"),
            nb::arg("muted").none(), nb::arg("codes"), nb::arg("outputs"), nb::arg("interruptible"))
        .def("peak", &Engine::peak, nb::call_guard<Unlocked>())
        .def_prop_ro("kernels", &Engine::kernels);

    bind_analysis(m);
    bind_frames(m);
    bind_model(m);
    bind_stream(m);
    m.def("create", &create, nb::arg("dimensions"), nb::arg("weights"), nb::arg("precision"), nb::arg("threads"));
    m.def("kernels", [] {
        const char* names[8];
        return std::vector<std::string>(names, names + available_kernels(names, 8));
    });
    m.def(
        "draw",
        [](Array<const float, 2> logits, Array<const double, 1> uniforms, double temperature, int top_k, double top_p,
           Array<std::int64_t, 1> codes) {
            CategoricalSampler sampler(int(logits.shape(1)));
            for (std::size_t row = 0; row < logits.shape(0); ++row)
                codes.data()[row] = sampler.draw(chosen_kernels(), logits.data() + row * logits.shape(1),
                                                 uniforms.data()[row], make_sampling(temperature, top_k, top_p));
        },
        nb::arg("logits"), nb::arg("uniforms"), nb::arg("temperature"), nb::arg("top_k"), nb::arg("top_p"),
        nb::arg("codes"));
    m.def(
        "draw_continuous",
        [](const std::string& output, Array<const float, 2> parameters, Array<const double, 1> uniforms,
           double temperature, double top_p, Array<std::int64_t, 1> codes) {
            const std::size_t width = parameters.shape(1);
            ContinuousSampler sampler(parse_output(output), output == "logistic" ? int(width) / 3 : 1);
            for (std::size_t row = 0; row < parameters.shape(0); ++row)
                codes.data()[row] = sampler.draw(parameters.data() + row * width, uniforms.data()[row],
                                                 make_sampling(temperature, 0, top_p));
        },
        nb::arg("output"), nb::arg("parameters"), nb::arg("uniforms"), nb::arg("temperature"), nb::arg("top_p"),
        nb::arg("codes"));
}
