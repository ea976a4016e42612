# CUDA sources, and the same sources on the twin: a host emulator with its own checks (tests/twin/README.md).

# deepflow_cuda_sources(kernels cuda/x.cu ...): adds the sources of the CUDA backend to deepflow_kernels when there is
# an nvcc; else does nothing.
function(deepflow_cuda_sources folder)
  if(NOT DEEPFLOW_HAS_CUDA)
    return()
  endif()
  target_sources(deepflow_${folder} PRIVATE ${ARGN})
  target_link_libraries(deepflow_${folder} PRIVATE CUDA::cudart_static)
endfunction()

# The twin needs g++ (it defines the functions that gcc's instrumentation calls), x86-64 and the toolkit's headers.
find_path(DEEPFLOW_CUDA_HEADERS cuda_runtime_api.h HINTS ${CUDAToolkit_INCLUDE_DIRS} /usr/local/cuda/include)
set(DEEPFLOW_HAS_TWIN OFF)
if(NOT DEEPFLOW_CUDA_HEADERS)
  message(STATUS "no CUDA headers: the tests that run CUDA kernels on the twin are not built")
elseif(NOT CMAKE_CXX_COMPILER_ID STREQUAL "GNU" OR NOT CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  message(STATUS "not g++ on x86-64: the tests that run CUDA kernels on the twin are not built")
elseif(DEEPFLOW_SANITIZE)
  message(STATUS "DEEPFLOW_SANITIZE: the tests that run CUDA kernels on the twin are not built")
else()
  set(DEEPFLOW_HAS_TWIN ON)
endif()

# Instruments every access of device code; libtsan and libubsan are not linked, the twin has their entry points.
set(DEEPFLOW_TWIN_KERNEL_FLAGS -O1 -g -fsanitize=thread --param tsan-instrument-func-entry-exit=0
  -fsanitize=bounds,alignment,shift,signed-integer-overflow,integer-divide-by-zero
  -ftrivial-auto-var-init=pattern -Wno-unknown-pragmas -Wno-pedantic)

# deepflow_twin_tests(name SOURCES x_test.cpp ... KERNELS x.cu ... HOST y.cpp ... DEPENDS core ...): a gtest program
# ${name}_twin_tests whose kernels are compiled by g++ and run on the twin. HOST are sources of the CUDA backend that
# call its C API; DEPENDS must not bring in the real CUDA libraries.
function(deepflow_twin_tests name)
  if(NOT DEEPFLOW_HAS_TWIN)
    return()
  endif()
  cmake_parse_arguments(A "" "" "SOURCES;KERNELS;HOST;DEPENDS;LIBRARIES" ${ARGN})
  set_source_files_properties(${A_KERNELS} PROPERTIES LANGUAGE CXX)
  add_library(${name}_twin_kernels OBJECT ${A_KERNELS})
  target_compile_options(${name}_twin_kernels PRIVATE ${DEEPFLOW_WARNINGS} ${DEEPFLOW_TWIN_KERNEL_FLAGS})
  add_executable(${name}_twin_tests ${A_SOURCES} ${A_HOST})
  target_compile_options(${name}_twin_tests PRIVATE ${DEEPFLOW_WARNINGS} -Wno-pedantic ${DEEPFLOW_TEST_OPTIMIZATION})
  foreach(target ${name}_twin_kernels ${name}_twin_tests)
    target_compile_definitions(${target} PRIVATE DEEPFLOW_TWIN)
    target_include_directories(${target} PRIVATE ${CMAKE_SOURCE_DIR} ${CMAKE_SOURCE_DIR}/tests)
    target_include_directories(${target} SYSTEM PRIVATE ${DEEPFLOW_CUDA_HEADERS})
  endforeach()
  foreach(dep ${A_DEPENDS})
    target_link_libraries(${name}_twin_tests PRIVATE deepflow_${dep})
  endforeach()
  target_link_libraries(${name}_twin_tests PRIVATE ${name}_twin_kernels twin GTest::gtest GTest::gmock
    GTest::gtest_main ${A_LIBRARIES})
  gtest_discover_tests(${name}_twin_tests TEST_PREFIX ${name}_twin. DISCOVERY_TIMEOUT 60 PROPERTIES TIMEOUT 600)
endfunction()
