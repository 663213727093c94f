# The header, the libraries, and how others find them: find_package(wavenet) and pkg-config.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

install(FILES include/wavenet.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(FILES third_party/kissfft/COPYING third_party/kissfft/LICENSES/BSD-3-Clause
  DESTINATION ${CMAKE_INSTALL_DOCDIR}/kissfft
)
install(TARGETS ${libraries} EXPORT wavenet
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
  ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR}
  RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR}
)

set(package ${CMAKE_INSTALL_LIBDIR}/cmake/wavenet)
install(EXPORT wavenet NAMESPACE wavenet:: FILE wavenet-targets.cmake DESTINATION ${package})
configure_package_config_file(cmake/wavenet-config.cmake.in wavenet-config.cmake INSTALL_DESTINATION ${package})
write_basic_package_version_file(wavenet-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/wavenet-config.cmake ${PROJECT_BINARY_DIR}/wavenet-config-version.cmake
  DESTINATION ${package}
)

# relative, so that `cmake --install --prefix` and moving the folder are possible
file(RELATIVE_PATH to_prefix "/prefix/${CMAKE_INSTALL_LIBDIR}/pkgconfig" "/prefix")
configure_file(cmake/wavenet.pc.in wavenet.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/wavenet.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
