// The analysis and the refinement of audio, for tests of libwavenet: the toolkit itself uses features.py and consistency.py.
#include "binding.h"

#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>

#include <string>

#include "failure.h"
#include "mel_analysis.h"
#include "refinement.h"

namespace nb = nanobind;
using namespace wavenet;

namespace {

using Floats = nb::ndarray<float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using ConstFloats = nb::ndarray<const float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Frames = nb::ndarray<float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using ConstFrames = nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

// Of the fields of wavenet.config.MelConfig.
MelConfig make_mel(const nb::dict& fields) {
    const auto integer = [&](const char* name) { return nb::cast<int>(fields[name]); };
    const auto real = [&](const char* name) { return nb::cast<double>(fields[name]); };
    MelConfig mel;
    mel.sample_rate = integer("sample_rate");
    mel.window = integer("window");
    mel.fft = integer("fft");
    mel.hop = integer("hop");
    mel.bands = integer("bands");
    mel.low = real("low");
    mel.high = real("high");
    mel.slaney = nb::cast<std::string>(fields["scale"]) == "slaney";
    mel.area = nb::cast<bool>(fields["area"]);
    mel.power = real("power");
    mel.floor = real("floor");
    mel.mean = real("mean");
    mel.deviation = real("deviation");
    return mel;
}

void check_room(std::size_t given, std::size_t needed) {
    if (given < needed) fail("the array has room for " + std::to_string(given) + ", not for " + std::to_string(needed));
}

}  // namespace

void bind_analysis(nb::module_& m) {
    nb::class_<MelAnalysis>(m, "MelAnalysis")
        .def(
            "__init__",
            [](MelAnalysis* self, const nb::dict& mel, std::size_t max_block) {
                new (self) MelAnalysis(make_mel(mel), max_block);
            },
            nb::arg("mel"), nb::arg("max_block"))
        .def(
            "process",
            [](MelAnalysis& self, ConstFloats audio, Frames frames) {
                check_room(frames.shape(0), self.room());
                return self.process(audio.data(), audio.shape(0), frames.data());
            },
            nb::arg("audio"), nb::arg("frames"))
        .def(
            "end", [](MelAnalysis& self, Frames frames) { return self.end(frames.data()); }, nb::arg("frames"))
        .def_prop_ro("room", &MelAnalysis::room)
        .def_prop_ro("delay", &MelAnalysis::delay);

    nb::class_<Refinement>(m, "Refinement")
        .def(
            "__init__",
            [](Refinement* self, const nb::dict& mel, int iterations, std::size_t capacity) {
                new (self) Refinement(make_mel(mel), iterations, capacity);
            },
            nb::arg("mel"), nb::arg("iterations"), nb::arg("capacity"))
        .def("copy", [](const Refinement& self) { return Refinement(self); })
        .def(
            "push", [](Refinement& self, ConstFrames frames) { return self.push(frames.data(), frames.shape(0)); },
            nb::arg("frames"))
        .def(
            "process",
            [](Refinement& self, ConstFloats audio, Floats refined) {
                check_room(refined.shape(0), audio.shape(0));
                self.process(audio.data(), refined.data(), audio.shape(0));
            },
            nb::arg("audio"), nb::arg("refined"))
        .def(
            "end", [](Refinement& self, Floats refined) { return self.end(refined.data()); }, nb::arg("refined"))
        .def_prop_ro("delay", &Refinement::delay);
}
