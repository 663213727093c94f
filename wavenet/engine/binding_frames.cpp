// The part of the extension module that binds the slow tier.
#include "binding.h"

#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/unique_ptr.h>

#include <stdexcept>

#include "frame_sampler.h"

namespace nb = nanobind;
using namespace wavenet;

namespace {

template <class T, int DIMENSIONS>
using Array = nb::ndarray<T, nb::ndim<DIMENSIONS>, nb::c_contig, nb::device::cpu>;

// config: JSON, as in a model file; weights: by their names there.
std::unique_ptr<FrameSampler> create(const std::string& config, const nb::dict& weights, std::uint64_t seed) {
    TensorMap tensors;
    for (auto [name, tensor] : weights) {
        const auto array = nb::cast<nb::ndarray<const float, nb::c_contig, nb::device::cpu>>(tensor);
        tensors[nb::cast<std::string>(name)].assign(array.data(), array.data() + array.size());
    }
    const ModelConfig model = read_config(config, "the configuration");
    if (!model.frame_model) throw std::invalid_argument("this model has no slow tier");
    return std::make_unique<FrameSampler>(std::make_shared<const FrameModel>(model, tensors), seed);
}

}  // namespace

void bind_frames(nb::module_& m) {
    nb::class_<FrameSampler>(m, "FrameSampler")
        .def("copy", [](const FrameSampler& sampler) { return std::make_unique<FrameSampler>(sampler); })
        .def(
            "next",
            [](FrameSampler& sampler, Array<const double, 1> pitch, Array<const double, 1> loudness,
               Array<float, 2> frames) {
                if (pitch.shape(0) != frames.shape(0) || loudness.shape(0) != frames.shape(0) ||
                    frames.shape(1) != sampler.bands())
                    throw std::invalid_argument("frames must be [n, bands], pitch and loudness [n]");
                for (std::size_t i = 0; i < frames.shape(0); ++i) {
                    sampler.set_pitch(pitch.data()[i]);
                    sampler.set_loudness(loudness.data()[i]);
                    sampler.next(frames.data() + i * frames.shape(1));
                }
            },
            nb::arg("pitch"), nb::arg("loudness"), nb::arg("frames"))
        .def(
            "prime",
            [](FrameSampler& sampler, Array<const float, 2> frames) {
                if (frames.shape(1) != sampler.bands()) throw std::invalid_argument("frames must be [n, bands]");
                sampler.prime(frames.data(), frames.shape(0));
            },
            nb::arg("frames"))
        .def("restart", &FrameSampler::restart)
        .def("start", &FrameSampler::start)
        .def("reseed", &FrameSampler::reseed, nb::arg("seed"))
        .def("set_temperature", &FrameSampler::set_temperature, nb::arg("temperature"))
        .def(
            "speak",
            [](FrameSampler& sampler, Array<const float, 1> shares) {
                if (shares.shape(0) != sampler.voices()) throw std::invalid_argument("shares must be [voices]");
                sampler.speak(shares.data());
            },
            nb::arg("shares"));
    m.def("create_frame_sampler", &create, nb::arg("config"), nb::arg("weights"), nb::arg("seed"));
}
