# `cmake --install build`: the binary, the headers and a package for find_package(DeepFlow).
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)
get_property(folders GLOBAL PROPERTY DEEPFLOW_FOLDERS)
install(TARGETS ${folders} EXPORT DeepFlowTargets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
if(TARGET deepflow)
  install(TARGETS deepflow RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()
foreach(folder core kernels data parallel optim models checkpoint engine launch)
  install(DIRECTORY ${folder} DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/deepflow FILES_MATCHING PATTERN "*.h")
endforeach()
install(EXPORT DeepFlowTargets NAMESPACE DeepFlow:: DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/DeepFlow)
configure_package_config_file(cmake/DeepFlowConfig.cmake.in ${CMAKE_BINARY_DIR}/DeepFlowConfig.cmake
  INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/DeepFlow)
write_basic_package_version_file(${CMAKE_BINARY_DIR}/DeepFlowConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_BINARY_DIR}/DeepFlowConfig.cmake ${CMAKE_BINARY_DIR}/DeepFlowConfigVersion.cmake
  DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/DeepFlow)
install(DIRECTORY examples cluster-configs DESTINATION ${CMAKE_INSTALL_DATADIR}/deepflow)
