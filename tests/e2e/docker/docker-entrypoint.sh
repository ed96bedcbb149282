#!/bin/sh
# As the official image has it: who starts as root goes on as envoy, unless ENVOY_UID is 0.
set -e
if [ "$(id -u)" = 0 ] && [ "$ENVOY_UID" != 0 ]; then
    chown envoy: /dev/stdout /dev/stderr
    set -- setpriv --reuid=envoy --regid=envoy --init-groups "$@"
fi
exec "$@"
