// Streams of the C interface, for wavenet.replay: what other programs play, sample for sample.
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <stdexcept>
#include <vector>

#include "binding.h"
#include "wavenet.h"

namespace nb = nanobind;

namespace {

using Audio = nb::ndarray<const float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Out = nb::ndarray<float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

constexpr std::size_t BLOCK = 4096;  // samples

void check(wavenet_status status) {
    if (status != WAVENET_OK) throw std::invalid_argument(wavenet_last_error());
}

class PlayedStream {
public:
    PlayedStream(const nb::bytes& model, const std::string& precision, std::uint64_t seed) {
        check(wavenet_model_open_bytes(model.c_str(), model.size(), precision.c_str(), &model_));
        stream_ = wavenet_stream_new(model_, seed, BLOCK);
        if (!stream_) {
            wavenet_model_close(model_);
            throw std::invalid_argument(wavenet_last_error());
        }
    }
    PlayedStream(const PlayedStream&) = delete;
    PlayedStream& operator=(const PlayedStream&) = delete;
    ~PlayedStream() {
        wavenet_stream_free(stream_);
        wavenet_model_close(model_);
    }

    int sample_rate() const { return wavenet_model_sample_rate(model_); }

    // The controls of wavenet.h by their names there.
    void set(const std::string& name, double value) {
        if (name == "temperature") check(wavenet_stream_set_temperature(stream_, value));
        else if (name == "voiced_temperature") check(wavenet_stream_set_voiced_temperature(stream_, value));
        else if (name == "top_k") check(wavenet_stream_set_top_k(stream_, int(std::clamp(value, -1.0, 1e6))));
        else if (name == "top_p") check(wavenet_stream_set_top_p(stream_, value));
        else if (name == "pitch") check(wavenet_stream_set_pitch(stream_, value));
        else if (name == "loudness") check(wavenet_stream_set_loudness(stream_, value));
        else throw std::invalid_argument(name + ": there is no such control");
    }
    void speak(const std::vector<float>& shares) {
        check(wavenet_stream_set_speakers(stream_, shares.data(), int(shares.size())));
    }
    void mute(const std::vector<int>& layers) {
        check(wavenet_stream_set_mute(stream_, layers.data(), int(layers.size())));
    }
    void seed(std::uint64_t seed) { check(wavenet_stream_seed(stream_, seed)); }
    void prepare() { check(wavenet_stream_prepare(stream_, 1)); }
    void prime(Audio audio) { check(wavenet_stream_prime(stream_, audio.data(), audio.size())); }

    // Analyses the audio whose features the stream follows; before its first sample.
    void resynthesise(Audio audio) {
        wavenet_analysis* const analysis = wavenet_analysis_new(model_, BLOCK);
        if (!analysis) throw std::invalid_argument(wavenet_last_error());
        const std::size_t bands = std::size_t(wavenet_model_bands(model_));
        std::vector<float> some(bands * wavenet_analysis_room(analysis));
        std::size_t written = 0;
        const auto keep = [&] { frames_.insert(frames_.end(), some.data(), some.data() + written * bands); };
        for (std::size_t first = 0; first < audio.size(); first += BLOCK) {
            const std::size_t count = std::min(BLOCK, audio.size() - first);
            wavenet_analysis_process(analysis, audio.data() + first, count, some.data(), &written);
            keep();
        }
        wavenet_analysis_end(analysis, some.data(), &written);
        keep();
        wavenet_analysis_free(analysis);
        feed();
    }

    // The next samples. Returns how many there are: fewer only at the end of the features.
    std::size_t process(Out out) {
        std::size_t done = 0;
        while (done < out.size()) {
            feed();
            const std::uint64_t before = wavenet_stream_position(stream_);
            const std::size_t count = std::min(BLOCK, out.size() - done);
            const wavenet_status status = wavenet_stream_process(stream_, out.data() + done, count);
            if (status != WAVENET_STARVED) check(status);
            const std::size_t generated = std::size_t(wavenet_stream_position(stream_) - before);
            if (!generated) break;  // else there may be room for more frames
            done += generated;
        }
        return done;
    }

private:
    // Pushes the frames that there is room for.
    void feed() {
        if (frames_.empty()) return;
        const std::size_t bands = std::size_t(wavenet_model_bands(model_)), left = frames_.size() / bands - given_;
        std::size_t taken = 0;
        const wavenet_status status = wavenet_stream_push(stream_, frames_.data() + given_ * bands, left, &taken);
        if (status != WAVENET_FULL) check(status);
        given_ += taken;
        if (taken == left) check(wavenet_stream_end(stream_));
    }

    wavenet_model* model_ = nullptr;
    wavenet_stream* stream_ = nullptr;
    std::vector<float> frames_;  // [n][bands]
    std::size_t given_ = 0;      // of them
};

}  // namespace

void bind_stream(nb::module_& m) {
    nb::class_<PlayedStream>(m, "PlayedStream")
        .def(nb::init<const nb::bytes&, const std::string&, std::uint64_t>(), nb::arg("model"), nb::arg("precision"),
             nb::arg("seed"))
        .def_prop_ro("sample_rate", &PlayedStream::sample_rate)
        .def("set", &PlayedStream::set, nb::arg("name"), nb::arg("value"))
        .def("speak", &PlayedStream::speak, nb::arg("shares"))
        .def("mute", &PlayedStream::mute, nb::arg("layers"))
        .def("seed", &PlayedStream::seed, nb::arg("seed"))
        .def("prepare", &PlayedStream::prepare)
        .def("prime", &PlayedStream::prime, nb::arg("audio"))
        .def("resynthesise", &PlayedStream::resynthesise, nb::arg("audio"))
        .def("process", &PlayedStream::process, nb::arg("out"));
}
