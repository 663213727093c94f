// The parts of the extension module that are not in binding.cpp.
#pragma once

#include <nanobind/nanobind.h>

void bind_analysis(nanobind::module_& m);
void bind_frames(nanobind::module_& m);
void bind_model(nanobind::module_& m);
void bind_stream(nanobind::module_& m);
