#!/bin/sh
# Evidence of this machine for `testbed verify` (docs/collect.md). It needs root, a TPM 2.0, tpm2-tools 5 and IMA.
#
#   sh collect.sh check                 say what is missing on this machine, and change nothing
#   sh collect.sh enrol                 make an attestation key; carry enrol.tar to the verifier
#   sh collect.sh answer CHALLENGE.tar  prove that this TPM has the key, quote; carry evidence.tar to the verifier
#   sh collect.sh quote NONCE           quote over a nonce (hex), without such a proof
#
# The TPM keeps nothing: the attestation key is a file in ./testbed-collect that only this TPM can use. Remove that
# directory when you are done.
set -eu
umask 077
LC_ALL=C
export LC_ALL

bank=@BANK@
pcrs='@PCRS@'
value_bytes=@BYTES@
: "${IMA_LOG:=/sys/kernel/security/ima/binary_runtime_measurements}"
: "${COLLECT_DIR:=./testbed-collect}"
: "${COLLECT_TRIES:=8}"
# The certificate of an endorsement key in NV memory, by the key's kind (TCG EK Credential Profile, 2.2.1.4).
rsa_certificate=0x01c00002
ecc_certificate=0x01c0000a

say() { printf '%s\n' "$*" >&2; }

# die MESSAGE HINT
die() {
  say "error: $1"
  say "  hint: $2"
  exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

check_tools() {
  for tool in createek createak load getcap nvread quote startauthsession policysecret activatecredential \
    flushcontext pcrread readpublic; do
    have "tpm2_$tool" || die "tpm2_$tool is not on this machine" "install tpm2-tools 5 or later (apt install tpm2-tools)"
  done
  for tool in od tr cut wc tar sed tail; do
    have "$tool" || die "$tool is not on this machine" "install the base tools of the system (coreutils, tar, sed)"
  done
  version=$(tpm2_quote --version 2>/dev/null | sed -n 's/.*version="\([^"]*\)".*/\1/p')
  case ${version:-none} in
    [5-9].* | [1-9][0-9].*) ;;
    *) die "tpm2-tools: expected version 5 or later, got ${version:-an unknown one}" "install a newer tpm2-tools" ;;
  esac
}

check_machine() {
  if [ -z "${TPM2TOOLS_TCTI:-}" ]; then
    [ "$(id -u)" -eq 0 ] || die "this needs root, for the TPM and the log" "run it with sudo"
    # The kernel's resource manager: through /dev/tpm0 we would share the few places for keys with other programs.
    [ -c /dev/tpmrm0 ] || die "no TPM: /dev/tpmrm0 is not there" "enable the TPM in the firmware; load its driver"
    TPM2TOOLS_TCTI=device:/dev/tpmrm0
    export TPM2TOOLS_TCTI
  fi
  if [ ! -e "$IMA_LOG" ]; then
    case $IMA_LOG in
      /sys/kernel/security/*)
        [ -d /sys/kernel/security/integrity ] || [ -d /sys/kernel/security/ima ] ||
          die "$IMA_LOG is not there" "mount -t securityfs securityfs /sys/kernel/security; if it is mounted, this kernel has no IMA" ;;
    esac
    die "$IMA_LOG is not there" "boot a kernel with IMA (CONFIG_IMA) and a policy, for example ima_policy=tcb"
  fi
  [ -r "$IMA_LOG" ] || die "$IMA_LOG cannot be read" "run it with sudo"
  tpm2_getcap pcrs >"$tmp/banks" 2>"$tmp/err" ||
    die "the TPM does not answer: $(tail -n 1 "$tmp/err")" "try tpm2_getcap pcrs"
  found=$(sed -n "s/^ *-* *$bank: *\[\(.*\)\].*/\1/p" "$tmp/banks" | tr -d ' ')
  for pcr in $(printf %s "$pcrs" | tr ',' ' '); do
    case ",$found," in
      *",$pcr,"*) ;;
      *) die "the TPM has no PCR $pcr in the bank $bank" \
        "take a bank that tpm2_getcap pcrs lists (testbed collect script --pcrs), or allocate it (tpm2_pcrallocate) and start again" ;;
    esac
  done
}

transients() { tpm2_getcap handles-transient 2>/dev/null | sed -n 's/^- *\(0x[0-9A-Fa-f]*\).*/\1/p'; }

# Remove what we left in the TPM. The resource manager does it by itself; without one there are three places for keys.
flush() {
  for handle in $(transients); do
    case " $before " in
      *" $handle "*) ;;
      *) tpm2_flushcontext "$handle" >/dev/null 2>&1 || true ;;
    esac
  done
}

end_session() {
  [ ! -e "$tmp/session" ] || tpm2_flushcontext "$tmp/session" >/dev/null 2>&1 || true
  rm -f "$tmp/session"
}

finish() {
  status=$?
  trap - EXIT
  if [ -n "${tmp:-}" ]; then
    if [ -n "${started:-}" ]; then
      end_session
      flush
    fi
    rm -rf "$tmp"
  fi
  exit "$status"
}

# tpm WHAT COMMAND...: run one tool; its complaints are shown only if it fails.
tpm() {
  what=$1
  shift
  "$@" >"$tmp/out" 2>"$tmp/err" || die "$what failed: $(grep -v '^WARNING' "$tmp/err" | tail -n 1)" \
    "run it by hand to see more: $*"
}

# The endorsement key's policy wants this session; it serves one command.
session() {
  end_session
  tpm "the session" tpm2_startauthsession --policy-session -S "$tmp/session"
  tpm "the endorsement hierarchy" tpm2_policysecret -S "$tmp/session" -c e
}

# The endorsement key is made again each time: the TPM derives the same key from its seed.
make_ek() {
  kind=$(cat "$COLLECT_DIR/kind")
  tpm "the endorsement key" tpm2_createek -c "$tmp/ek.ctx" -G "$kind" -u "$tmp/ek.pub"
  flush
}

load_ak() {
  own_directory
  [ -s "$COLLECT_DIR/ak.priv" ] || die "no attestation key in $COLLECT_DIR" "run: sh $0 enrol"
  make_ek
  session
  tpm "the attestation key" tpm2_load -C "$tmp/ek.ctx" -P "session:$tmp/session" \
    -u "$COLLECT_DIR/ak.pub" -r "$COLLECT_DIR/ak.priv" -c "$tmp/ak.ctx"
  end_session
  flush
}

# Files are written there, mostly by root: links that another user prepared could lead them elsewhere.
own_directory() {
  if [ ! -O "$COLLECT_DIR" ] || [ -L "${COLLECT_DIR%/}" ]; then
    die "$COLLECT_DIR is not a directory of your own" "remove it, or set COLLECT_DIR"
  fi
}

enrol() {
  mkdir -p "$COLLECT_DIR"
  own_directory
  [ ! -e "$COLLECT_DIR/ak.priv" ] || die "$COLLECT_DIR has an attestation key already" "use it, or remove $COLLECT_DIR"
  rm -f "$COLLECT_DIR/ek.crt"
  kind=rsa
  if tpm2_nvread "$rsa_certificate" -o "$COLLECT_DIR/ek.crt" >/dev/null 2>&1; then
    :
  elif tpm2_nvread "$ecc_certificate" -o "$COLLECT_DIR/ek.crt" >/dev/null 2>&1; then
    kind=ecc
  else
    rm -f "$COLLECT_DIR/ek.crt"
    say "note: this TPM has no certificate of its endorsement key at $rsa_certificate or $ecc_certificate;"
    say "  the verifier then cannot see that it is a real TPM"
  fi
  printf '%s\n' "$kind" >"$COLLECT_DIR/kind"
  make_ek
  cp "$tmp/ek.pub" "$COLLECT_DIR/ek.pub"
  tpm "the attestation key" tpm2_createak -C "$tmp/ek.ctx" -c "$tmp/ak.ctx" -G rsa -g sha256 -s rsassa \
    -u "$COLLECT_DIR/ak.pub" -r "$COLLECT_DIR/ak.priv"
  flush
  names='ek.pub ak.pub'
  [ ! -e "$COLLECT_DIR/ek.crt" ] || names="$names ek.crt"
  # shellcheck disable=SC2086 # these are several names
  tar -C "$COLLECT_DIR" -cf "$COLLECT_DIR/enrol.tar" $names
  say "carry $COLLECT_DIR/enrol.tar to the verifier, who runs: testbed collect challenge enrol.tar ..."
}

hex() { od -An -v -tx1 "$1" | tr -d ' \n'; }

log_bytes() { wc -c <"$IMA_LOG" | tr -d ' '; }

pcr_values() { tpm2_pcrread "$bank:$pcrs" -o "$1" >/dev/null 2>&1; }

# The quote first, the log after it: the kernel adds an entry to the log before it extends the PCR, so a log that is
# read later has at least what was quoted.
take_log() {
  cat "$IMA_LOG" >"$tmp/b/ima.bin" || die "$IMA_LOG cannot be read" "run it with sudo"
  late=$(wc -c <"$tmp/b/ima.bin" | tr -d ' ')
}

# take_quote NONCE [MORE...]: quote once, with more options of tpm2_quote. Status 1 if it saw that a PCR moved.
take_quote() {
  nonce=$1
  shift
  set -- tpm2_quote -c "$tmp/ak.ctx" -l "$bank:$pcrs" -q "$nonce" -g sha256 -m "$tmp/b/quote.attest" \
    -s "$tmp/b/quote.sig" "$@"
  "$@" >/dev/null 2>"$tmp/err" && quoted=yes || quoted=no
  flush
  [ "$quoted" = no ] || return 0
  ! grep -q PCR "$tmp/err" || return 1
  die "tpm2_quote failed: $(tail -n 1 "$tmp/err")" "run it by hand to see more"
}

# One try with the values of the PCRs, which tpm2_quote reads after it quotes. Status 1: a PCR moved, and the log has
# nothing about it. Status 2: a PCR moved, and the log grew.
try_quote() {
  early=$(log_bytes)
  tpm2_pcrread "$bank:$pcrs" -o "$tmp/early" >/dev/null 2>&1 || return 1
  moved=no
  take_quote "$1" -o "$tmp/values" -F values || moved=yes
  take_log
  if [ "$moved" = yes ]; then
    [ "$late" -gt "$early" ] && return 2
    return 1
  fi
  [ "$late" -ge "$early" ] || return 1
  [ "$late" -gt "$early" ] || [ "$(hex "$tmp/early")" = "$(hex "$tmp/values")" ]
}

# The values of the PCRs as JSON, if there are any.
listed_values() {
  [ -e "$tmp/values" ] || return 0
  values=$(hex "$tmp/values")
  digits=$((value_bytes * 2))
  at=0
  listed=
  for pcr in $(printf %s "$pcrs" | tr ',' ' '); do
    one=$(printf %s "$values" | cut -c "$((at + 1))-$((at + digits))")
    listed="$listed${listed:+, }\"$pcr\": \"$one\""
    at=$((at + digits))
  done
  [ "${#values}" -eq "$at" ] || die "tpm2_quote gave ${#values} digits of PCR values, expected $at" \
    "report this, with the output of tpm2_quote --version"
  printf ' "pcr_values": {%s},\n' "$listed"
}

write_json() {
  boot=$(tr -cd '0-9a-f-' </proc/sys/kernel/random/boot_id)
  {
    printf '{\n "schema": 1,\n "hash_alg": "%s",\n "pcrs": [%s],\n' "$bank" "$(printf %s "$pcrs" | sed 's/,/, /g')"
    listed_values
    printf ' "nonce": "%s",\n "boot_id": "%s"\n}\n' "$1" "$boot"
  } >"$tmp/b/bundle.json"
}

check_nonce() {
  case $1 in
    '' | *[!0-9a-f]*) die "the nonce must be hex digits" "copy it as the verifier gave it" ;;
  esac
  if [ $((${#1} % 2)) -ne 0 ] || [ "${#1}" -gt 132 ]; then
    die "the nonce must have 1 to 66 bytes in hex" "copy it as the verifier gave it"
  fi
}

quote() {
  asked=$(printf %s "$1" | tr 'A-F' 'a-f')
  check_nonce "$asked"
  mkdir -p "$tmp/b"
  tries=0
  while :; do
    status=0
    try_quote "$asked" || status=$?
    [ "$status" -ne 0 ] || break
    tries=$((tries + 1))
    if [ "$status" -eq 2 ] && [ "$tries" -ge 3 ]; then
      say "note: this machine measures without a pause; the quote is taken without the values of the PCRs"
      rm -f "$tmp/values"
      take_quote "$asked" || die "tpm2_quote failed: $(tail -n 1 "$tmp/err")" "run it by hand to see more"
      take_log
      break
    fi
    [ "$tries" -lt "$COLLECT_TRIES" ] || die "PCRs $pcrs changed in each of $tries tries, without an entry in the log" \
      "something extends them without a pause; find it, or leave its PCR out (testbed collect script --pcrs)"
    say "note: a PCR changed during the quote; trying again"
  done
  write_json "$asked"
  cp "$COLLECT_DIR/ak.pub" "$tmp/b/ak.pub"
}

pack() {
  tar -C "$tmp/b" -cf "$COLLECT_DIR/evidence.tar" "$@"
  say "carry $COLLECT_DIR/evidence.tar to the verifier, who runs: testbed collect accept ..."
}

answer() {
  [ -r "$1" ] || die "$1 cannot be read" "give the challenge.tar that the verifier made"
  mkdir -p "$tmp/c"
  tar -C "$tmp/c" -xf "$1" credential nonce 2>"$tmp/err" ||
    die "$1 is not a challenge: $(tail -n 1 "$tmp/err")" "give the challenge.tar that the verifier made"
  load_ak
  session
  tpm "the credential (it is for another TPM or another key)" tpm2_activatecredential -c "$tmp/ak.ctx" -C "$tmp/ek.ctx" \
    -i "$tmp/c/credential" -o "$tmp/secret" -P "session:$tmp/session"
  end_session
  flush
  quote "$(tr -d ' \n' <"$tmp/c/nonce")"
  cp "$tmp/secret" "$tmp/b/secret"
  pack bundle.json quote.attest quote.sig ima.bin ak.pub secret
}

quote_only() {
  [ -s "$COLLECT_DIR/ak.priv" ] || enrol
  load_ak
  quote "$1"
  pack bundle.json quote.attest quote.sig ima.bin ak.pub
  say "note: nothing proves that ak.pub is a key of a TPM; for that use enrol and answer"
}

usage() {
  sed -n '2,12s/^# \{0,1\}//p' "$0" >&2
  exit 2
}

case "${1:-}:$#" in
  check:1 | enrol:1 | answer:2 | quote:2) ;;
  *) usage ;;
esac
tmp=$(mktemp -d)
trap finish EXIT
trap 'exit 130' INT TERM HUP
check_tools
check_machine
before=$(transients | tr '\n' ' ')
started=yes
case $1 in
  check) say "good: tpm2-tools $version, $bank with PCRs $pcrs, $(log_bytes) bytes of log" ;;
  enrol) enrol ;;
  answer) answer "$2" ;;
  quote) quote_only "$2" ;;
esac
