# Builds the library as one WebAssembly module, without threads, whose only import is memory:
#
#     cmake -DOUTPUT=wavenet.wasm -P libwavenet/wasm/build.cmake
#
# The compiler is that of Zig, which is in the Python package `ziglang`: ZIG ("zig" or "python -m ziglang") or, without it,
# the package of PYTHON or what is found on the path. Its C and C++ libraries are compiled by the first build of a machine,
# which takes a minute. Where that fails one line says why, and it is an error only with -DREQUIRED=ON.
cmake_minimum_required(VERSION 3.18...4.0)
get_filename_component(library "${CMAKE_CURRENT_LIST_DIR}" DIRECTORY)

function(stop reason)
  if(REQUIRED)
    message(FATAL_ERROR "The WebAssembly module cannot be built: ${reason}")
  endif()
  message(STATUS "Without the WebAssembly module: ${reason}")
endfunction()

# The command: a list, or nothing.
function(find_zig command)
  find_program(zig_program NAMES python-zig zig)
  set(candidates "${ZIG}")
  if(NOT ZIG)
    set(candidates "${PYTHON} -m ziglang" "${zig_program}")
  endif()
  foreach(candidate ${candidates})
    separate_arguments(candidate NATIVE_COMMAND "${candidate}")
    # not with the PYTHONPATH of pip's build environment, which hides the packages of the user's own
    foreach(environment "" "${CMAKE_COMMAND};-E;env;--unset=PYTHONPATH")
      execute_process(COMMAND ${environment} ${candidate} version RESULT_VARIABLE code OUTPUT_QUIET ERROR_QUIET)
      if(code EQUAL 0)
        set(${command} ${environment} ${candidate} PARENT_SCOPE)
        return()
      endif()
    endforeach()
  endforeach()
  set(${command} "" PARENT_SCOPE)
endfunction()

find_zig(zig)
if(NOT zig)
  stop("it needs Zig's compiler (pip install ziglang)")
  return()
endif()

# What CMakeLists.txt lists, but for what needs threads or files.
file(READ "${library}/CMakeLists.txt" project)
string(REGEX MATCH "\nset\\(sources\n([^)]*)\\)" matched "${project}")
string(REGEX MATCHALL "src/[a-z0-9_]+\\.cpp" sources "${CMAKE_MATCH_1}")
list(FILTER sources EXCLUDE REGEX "engine|groups_job|model_path|pipeline|thread_")
list(APPEND sources
  src/kernels/choose.cpp src/kernels/portable.cpp src/kernels/wasm_simd128.cpp wasm/no_system.cpp
)
string(REGEX MATCH "project\\(wavenet VERSION ([0-9.]+)" matched "${project}")
set(version "${CMAKE_MATCH_1}")

file(READ "${library}/include/wavenet.h" header)
string(REGEX MATCHALL "wavenet_[a-z_]+\\(" functions "${header}")
set(exports -Wl,--export=malloc -Wl,--export=free)
foreach(function ${functions})
  string(REPLACE "(" "" function "${function}")
  list(APPEND exports -Wl,--export=${function})
endforeach()
list(REMOVE_DUPLICATES exports)

execute_process(
  COMMAND ${zig} c++ -target wasm32-wasi -mcpu=generic+simd128 -std=c++17 -O3 -s -fno-exceptions -fno-rtti
    -fno-math-errno -fno-trapping-math -ffp-contract=off -fcx-limited-range -fvisibility=hidden -Iinclude "-DWAVENET_VERSION=\"${version}\""
    ${sources} -mexec-model=reactor -Wl,--import-memory -Wl,-z,stack-size=1048576 ${exports} -o "${OUTPUT}.new"
  WORKING_DIRECTORY "${library}" RESULT_VARIABLE code OUTPUT_VARIABLE output ERROR_VARIABLE output
)
if(NOT code EQUAL 0)
  if(REQUIRED)
    message("${output}")
  endif()
  string(REGEX MATCH "[^\n]*error[^\n]*" line "${output}")
  stop("Zig's compiler fails: ${line}")
  return()
endif()
file(RENAME "${OUTPUT}.new" "${OUTPUT}")
