# Debian packages of a release build: `cpack -B DIR` in build/release, or
# packaging/build, which does all of it.
#
#   pollux-server   master, sync_client, units, user, manual of the files
#   pollux-tools    what admins type; completion
#   pollux-bench    the load generators of bench/
set(POLLUX_MAINTAINER "Pollux maintainers <maintainers@pollux.invalid>"
    CACHE STRING "Who makes the Debian packages")
set(gzip_dir ${CMAKE_BINARY_DIR}/packaging)
set(packed "")

# pollux_gzip(FROM NAME): NAME.gz of a file, the same at every build.
function(pollux_gzip from name)
    add_custom_command(OUTPUT ${gzip_dir}/${name}.gz
        COMMAND ${CMAKE_COMMAND} -E make_directory ${gzip_dir}
        COMMAND sh -c "gzip -9nc '${from}' >'${gzip_dir}/${name}.gz'"
        DEPENDS ${from} VERBATIM)
    set(packed ${packed} ${gzip_dir}/${name}.gz PARENT_SCOPE)
endfunction()

find_package(Python3 REQUIRED COMPONENTS Interpreter)
set(options_page ${CMAKE_BINARY_DIR}/imapd.conf.5)
add_custom_command(OUTPUT ${options_page}
    COMMAND sh -c "'${Python3_EXECUTABLE}' -B docs/man/options.py base/config_options.c docs/man/imapd.conf.5.in >'${options_page}'"
    WORKING_DIRECTORY ${CMAKE_SOURCE_DIR}
    DEPENDS docs/man/options.py docs/man/imapd.conf.5.in base/config_options.c
    VERBATIM)

# Pages carry the name before theirs, so that Cyrus's can be there, too.
file(GLOB pages CONFIGURE_DEPENDS docs/man/*.5 docs/man/*.8)
foreach(page IN LISTS pages options_page)
    if(page STREQUAL "options_page")
        set(page ${options_page})
    endif()
    get_filename_component(name ${page} NAME)
    string(REGEX MATCH "[58]$" section ${name})
    set(installed pollux-${name})
    if(name STREQUAL "pollux.8")
        set(installed ${name})
    endif()
    pollux_gzip(${page} ${installed})
    set(component tools)
    if(name MATCHES "^(master|sync_client)\\.8$|\\.5$")
        set(component server)
    endif()
    install(FILES ${gzip_dir}/${installed}.gz
        DESTINATION share/man/man${section} COMPONENT ${component})
endforeach()

string(TIMESTAMP now "%a, %d %b %Y %H:%M:%S +0000" UTC)
file(WRITE ${CMAKE_BINARY_DIR}/changelog
    "pollux (${PROJECT_VERSION}-1) unstable; urgency=medium\n\n"
    "  * Release ${PROJECT_VERSION}.\n\n"
    " -- ${POLLUX_MAINTAINER}  ${now}\n")
pollux_gzip(${CMAKE_BINARY_DIR}/changelog changelog.Debian)
add_custom_target(package_files ALL DEPENDS ${packed})

foreach(component server tools bench)
    install(FILES packaging/debian/copyright
        DESTINATION share/doc/pollux-${component} COMPONENT ${component})
    install(FILES ${gzip_dir}/changelog.Debian.gz
        DESTINATION share/doc/pollux-${component} COMPONENT ${component})
    install(FILES packaging/lintian/pollux-${component}
        DESTINATION share/lintian/overrides COMPONENT ${component})
endforeach()
install(FILES packaging/systemd/pollux@.service
    DESTINATION lib/systemd/system COMPONENT server)
install(FILES packaging/systemd/sysusers.conf DESTINATION lib/sysusers.d
    RENAME pollux.conf COMPONENT server)
install(FILES packaging/systemd/tmpfiles.conf DESTINATION lib/tmpfiles.d
    RENAME pollux.conf COMPONENT server)
install(PROGRAMS packaging/pollux DESTINATION sbin COMPONENT tools)
install(FILES packaging/pollux.bash
    DESTINATION share/bash-completion/completions RENAME pollux
    COMPONENT tools)
install(DIRECTORY docs/examples docs/monitoring DESTINATION share/doc/pollux-server
    COMPONENT server PATTERN "*.png" EXCLUDE)

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME pollux)
set(CPACK_PACKAGE_VENDOR Pollux)
set(CPACK_PACKAGE_CONTACT "${POLLUX_MAINTAINER}")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_COMPONENTS_ALL server tools bench)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_RELEASE 1)
set(CPACK_DEBIAN_PACKAGE_SECTION mail)
set(CPACK_DEBIAN_PACKAGE_PRIORITY optional)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
set(version "${PROJECT_VERSION}-${CPACK_DEBIAN_PACKAGE_RELEASE}")

set(CPACK_COMPONENT_SERVER_DESCRIPTION "mail store of pairs: IMAP and LMTP with replication
Two instances hold the same history, record for record, and change places in
milliseconds without losing one acknowledged message.  Reads the imapd.conf
and cyrus.conf of Cyrus IMAP.")
set(CPACK_COMPONENT_TOOLS_DESCRIPTION "tools of the mail store Pollux
Status, swap and promotion, backups, expiry, quotas, and what else admins of
Cyrus IMAP know by name: \"pollux ctl_failover status\".")
set(CPACK_COMPONENT_BENCH_DESCRIPTION "load generators of the mail store Pollux
LMTP and IMAP load with histograms of latency and a ledger of what was
acknowledged, for any server; raw figures of disk and loopback.")
foreach(component SERVER TOOLS BENCH)
    string(TOLOWER ${component} name)
    set(CPACK_DEBIAN_${component}_PACKAGE_NAME pollux-${name})
    set(CPACK_DEBIAN_${component}_DESCRIPTION
        "${CPACK_COMPONENT_${component}_DESCRIPTION}")
endforeach()
set(CPACK_DEBIAN_SERVER_PACKAGE_DEPENDS
    "pollux-tools (= ${version}), systemd | systemd-standalone-sysusers, systemd | systemd-standalone-tmpfiles")
set(CPACK_DEBIAN_SERVER_PACKAGE_RECOMMENDS "libsasl2-modules, sasl2-bin")
set(CPACK_DEBIAN_TOOLS_PACKAGE_SECTION admin)
set(CPACK_DEBIAN_SERVER_PACKAGE_CONTROL_EXTRA
    "${CMAKE_SOURCE_DIR}/packaging/debian/postinst;${CMAKE_SOURCE_DIR}/packaging/debian/prerm;${CMAKE_SOURCE_DIR}/packaging/debian/postrm")
include(CPack)
