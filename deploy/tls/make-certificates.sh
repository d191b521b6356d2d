#!/usr/bin/env bash
# Make what Dask needs to encrypt and to know its own: an authority, and one certificate that it has signed.
#
#   make-certificates.sh FOLDER [DAYS]    writes ca.pem, ca-key.pem, cert.pem and key.pem; only you may read them
#
# Scheduler, workers and clients use the same certificate: each lets in whoever has one of this authority.
set -euo pipefail
umask 077

fail() {
    echo "error: $*" >&2
    exit 1
}

[ $# -ge 1 ] && [ $# -le 2 ] || fail "usage: $(basename "$0") FOLDER [DAYS]"
folder=$1
days=${2:-365}
command -v openssl >/dev/null || fail "openssl is not installed"
mkdir -p "$folder"
for file in ca.pem ca-key.pem cert.pem key.pem; do
    [ ! -e "$folder/$file" ] || fail "$folder/$file is there already: name another folder, or remove it"
done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat >"$work/openssl.conf" <<'CONF'
[req]
distinguished_name = name
[name]
[authority]
basicConstraints = critical, CA:TRUE, pathlen:0
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[member]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth, clientAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = DNS:hgpscale-dask
CONF

quietly() { "$@" 2>"$work/said" || fail "$(cat "$work/said")"; }
new_key() { quietly openssl ecparam -name prime256v1 -genkey -noout -out "$1"; }

new_key "$folder/ca-key.pem"
new_key "$folder/key.pem"
quietly openssl req -config "$work/openssl.conf" -new -x509 -sha256 -days "$days" -extensions authority \
    -subj "/CN=hgpscale authority" -key "$folder/ca-key.pem" -out "$folder/ca.pem"
quietly openssl req -config "$work/openssl.conf" -new -sha256 -subj "/CN=hgpscale-dask" \
    -key "$folder/key.pem" -out "$work/request.pem"
quietly openssl x509 -req -sha256 -days "$days" -in "$work/request.pem" -CA "$folder/ca.pem" \
    -CAkey "$folder/ca-key.pem" -CAserial "$work/serial" -CAcreateserial \
    -extfile "$work/openssl.conf" -extensions member -out "$folder/cert.pem"
echo "$folder: ca.pem, cert.pem and key.pem for every machine that takes part; keep ca-key.pem, which makes more"
