// The part of the extension module that binds the conditioning of the fast tier.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/unique_ptr.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <stdexcept>

#include "conditioning_stream.h"

namespace nb = nanobind;
using namespace wavenet;

namespace {

template <class T, int DIMENSIONS>
using Array = nb::ndarray<T, nb::ndim<DIMENSIONS>, nb::c_contig, nb::device::cpu>;

// config: JSON, as in a model file; weights: by their names there.
std::shared_ptr<Conditioner> create(const std::string& config, const nb::dict& weights) {
    TensorMap tensors;
    for (auto [name, tensor] : weights) {
        const auto array = nb::cast<nb::ndarray<const float, nb::c_contig, nb::device::cpu>>(tensor);
        tensors[nb::cast<std::string>(name)].assign(array.data(), array.data() + array.size());
    }
    return std::make_shared<Conditioner>(read_config(config, "the configuration"), tensors);
}

std::unique_ptr<ConditioningFrames> frames(const Conditioner& conditioner, std::optional<Array<const float, 2>> shares,
                                           std::optional<Array<const float, 3>> features) {
    if (bool(shares) != (conditioner.speakers() > 0) || bool(features) != (conditioner.bands() > 0) ||
        (shares && int(shares->shape(1)) != conditioner.speakers()) ||
        (features && int(features->shape(1)) != conditioner.bands()) ||
        (shares && features && shares->shape(0) != features->shape(0)))
        throw std::invalid_argument("these conditioning inputs are for another network");
    const auto streams = int(shares ? shares->shape(0) : features->shape(0));
    const float* const speaker = shares ? shares->data() : nullptr;
    const float* const frames = features ? features->data() : nullptr;
    return conditioner.frames(streams, speaker, frames, features ? int(features->shape(2)) : 0);
}

// Of frames [n][bands]: whether they are voiced, and their pitch periods in samples.
void pitches(const Conditioner& conditioner, Array<const float, 2> frames, Array<bool, 1> voiced,
             Array<std::int64_t, 1> periods) {
    const std::size_t n = frames.shape(0), bands = frames.shape(1);
    if (!conditioner.bands() || int(bands) != conditioner.bands() || voiced.shape(0) != n || periods.shape(0) != n)
        throw std::invalid_argument("frames must be [n, bands], voiced and periods [n]");
    FramePredictor::Workspace workspace = conditioner.predictor().workspace();
    for (std::size_t i = 0; i < n; ++i) {
        const FramePredictor::Pitch pitch = conditioner.predictor().pitch(frames.data() + i * bands, workspace);
        voiced.data()[i] = pitch.voiced;
        periods.data()[i] = pitch.period;
    }
}

}  // namespace

void bind_conditioning(nb::module_& m) {
    nb::class_<Conditioning>(m, "Conditioning")
        .def(
            "biases",  // of one stream, for tests: each half of a layer's is padded
            [](const Conditioning& conditioning, int stream, std::size_t offset, Array<float, 1> biases) {
                const GateBiases between = conditioning.biases(stream, offset);
                for (std::size_t i = 0; i < biases.shape(0); ++i)
                    biases.data()[i] = between.from[i] + between.fraction * (between.to[i] - between.from[i]);
            },
            nb::arg("stream"), nb::arg("offset"), nb::arg("biases"))
        .def(
            "predictor",  // likewise
            [](const Conditioning& conditioning, int stream, std::size_t offset, Array<double, 1> predictor) {
                std::copy_n(conditioning.predictor(stream, offset), predictor.shape(0), predictor.data());
            },
            nb::arg("stream"), nb::arg("offset"), nb::arg("predictor"));
    nb::class_<ConditioningFrames, Conditioning>(m, "ConditioningFrames");

    nb::class_<Conditioner>(m, "Conditioner")
        .def(nb::new_(&create), nb::arg("config"), nb::arg("weights"))
        .def("frames", &frames, nb::arg("shares").none(), nb::arg("features").none())
        .def("pitches", &pitches, nb::arg("frames"), nb::arg("voiced"), nb::arg("periods"))
        .def(
            "possible",
            [](const Conditioner& conditioner, Array<const float, 2> frames) {
                return conditioner.possible(frames.data(), frames.shape(0));
            },
            nb::arg("frames"))
        .def_prop_ro("look_ahead", &Conditioner::look_ahead);

    nb::class_<ConditioningStream, Conditioning>(m, "ConditioningStream")  // for tests
        .def(nb::init<std::shared_ptr<const Conditioner>, std::size_t>(), nb::arg("conditioner"), nb::arg("capacity"))
        .def("copy", [](const ConditioningStream& stream) { return std::make_unique<ConditioningStream>(stream); })
        .def(
            "push",
            [](ConditioningStream& stream, Array<const float, 2> frames) {
                return stream.push(frames.data(), frames.shape(0));
            },
            nb::arg("frames"))
        .def("end", &ConditioningStream::end)
        .def("available", &ConditioningStream::available, nb::arg("position"))
        .def("ready", &ConditioningStream::ready, nb::arg("position"))
        .def("voiced", &ConditioningStream::voiced)
        .def(
            "speak", [](ConditioningStream& stream, Array<const float, 1> shares) { stream.speak(shares.data()); },
            nb::arg("shares"))
        .def("reset", &ConditioningStream::reset);
}
