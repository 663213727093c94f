// The parts of the extension module that are not in binding.cpp.
#pragma once

#include <nanobind/nanobind.h>

void bind_frames(nanobind::module_& m);
