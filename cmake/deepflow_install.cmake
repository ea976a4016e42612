# `cmake --install build --prefix DIR`: the binary, headers, libraries and a package for find_package(DeepFlow), recipes
# and cluster files. tests/install builds a program against it.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)
set(package_folder ${CMAKE_INSTALL_LIBDIR}/cmake/DeepFlow)
get_property(libraries GLOBAL PROPERTY DEEPFLOW_FOLDERS)
foreach(library ${libraries})
  target_compile_features(${library} INTERFACE cxx_std_20)
endforeach()
install(TARGETS ${libraries} EXPORT DeepFlowTargets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(TARGETS deepflow RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
foreach(folder core kernels data parallel optim models checkpoint engine launch)
  install(DIRECTORY ${folder} DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/deepflow FILES_MATCHING PATTERN "*.h")
endforeach()

install(EXPORT DeepFlowTargets NAMESPACE DeepFlow:: DESTINATION ${package_folder})
configure_package_config_file(cmake/DeepFlowConfig.cmake.in ${CMAKE_BINARY_DIR}/DeepFlowConfig.cmake
  INSTALL_DESTINATION ${package_folder})
write_basic_package_version_file(${CMAKE_BINARY_DIR}/DeepFlowConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_BINARY_DIR}/DeepFlowConfig.cmake ${CMAKE_BINARY_DIR}/DeepFlowConfigVersion.cmake
              cmake/deepflow_libraries.cmake
  DESTINATION ${package_folder})

install(DIRECTORY examples cluster-configs DESTINATION ${CMAKE_INSTALL_DATADIR}/deepflow)
