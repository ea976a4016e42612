# Every outside library that DeepFlow links, found once: for its own build, and installed for find_package(DeepFlow). The
# versions are those of Debian 12 and newer.
set(MPI_CXX_SKIP_MPICXX TRUE)
find_package(Threads REQUIRED)
find_package(MPI REQUIRED COMPONENTS CXX)
find_package(PkgConfig REQUIRED)
find_package(fmt REQUIRED)
find_package(spdlog REQUIRED)
find_package(CLI11 REQUIRED)
find_package(yaml-cpp REQUIRED)
find_package(nlohmann_json REQUIRED)
pkg_check_modules(HDF5 REQUIRED IMPORTED_TARGET hdf5)
pkg_check_modules(ZLIB REQUIRED IMPORTED_TARGET zlib)
pkg_check_modules(ZSTD REQUIRED IMPORTED_TARGET libzstd)
pkg_check_modules(XXHASH REQUIRED IMPORTED_TARGET libxxhash)
pkg_check_modules(PCRE2 REQUIRED IMPORTED_TARGET libpcre2-8)
pkg_check_modules(UTF8PROC REQUIRED IMPORTED_TARGET libutf8proc)

# Debian's dnnl package configuration insists on OpenCL, which a CPU build does not need.
find_path(DNNL_INCLUDE_DIR oneapi/dnnl/dnnl.hpp REQUIRED)
find_library(DNNL_LIBRARY dnnl REQUIRED)
# The OpenMP run time that oneDNN uses; our thread pool is its team (core/thread_pool.h). gcc keeps it in a folder of its
# own, which clang knows as well.
execute_process(COMMAND ${CMAKE_CXX_COMPILER} -print-file-name=libgomp.so
                OUTPUT_VARIABLE gomp_file OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
get_filename_component(gomp_folder "${gomp_file}" DIRECTORY)
find_library(GOMP_LIBRARY NAMES gomp libgomp.so.1 HINTS ${gomp_folder} REQUIRED)

if(NOT TARGET DeepFlow::dnnl)
  add_library(DeepFlow::dnnl INTERFACE IMPORTED GLOBAL)
  target_include_directories(DeepFlow::dnnl INTERFACE ${DNNL_INCLUDE_DIR})
  target_link_libraries(DeepFlow::dnnl INTERFACE ${DNNL_LIBRARY})
  add_library(DeepFlow::gomp INTERFACE IMPORTED GLOBAL)
  target_link_libraries(DeepFlow::gomp INTERFACE ${GOMP_LIBRARY})
endif()
