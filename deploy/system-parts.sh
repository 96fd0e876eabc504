#!/usr/bin/env bash
# System parts the tests use and pip cannot give: a browser, a JVM with Maven (for a real Kafka), a PostgreSQL server,
# openssl for a certificate, a C compiler (TensorRT's types are read through a shim), Prometheus with promtool.
# As root on Debian they are installed; elsewhere the command is printed and the tests that need them say so.
set -u
missing=()
command -v chromium >/dev/null 2>&1 || missing+=(chromium)
command -v java >/dev/null 2>&1 || missing+=(openjdk-17-jre-headless)
command -v mvn >/dev/null 2>&1 || missing+=(maven)
command -v cc >/dev/null 2>&1 || missing+=(gcc libc6-dev)
command -v openssl >/dev/null 2>&1 || missing+=(openssl)
command -v promtool >/dev/null 2>&1 || missing+=(prometheus)
compgen -G "/usr/lib/postgresql/*/bin/initdb" >/dev/null || missing+=(postgresql)
[ ${#missing[@]} -eq 0 ] && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
  echo "installing system parts: ${missing[*]} ..."
  apt-get update -qq >/dev/null 2>&1
  if DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${missing[@]}" >/tmp/affect-apt.log 2>&1; then exit 0; fi
  echo "apt-get failed; see /tmp/affect-apt.log"
  [ "${CI:-}" = true ] && exit 1
fi
echo "missing system parts; the tests that need them are left out. To have them: sudo apt-get install ${missing[*]}"
exit 0
