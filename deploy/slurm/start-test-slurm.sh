#!/usr/bin/env bash
# A SLURM of two small nodes on this machine, to try cluster files and for the tests; not for work.
#
#   start-test-slurm.sh start FOLDER [PORT]   keeps all it needs in FOLDER; listens on 127.0.0.1, PORT to PORT + 2
#   start-test-slurm.sh stop FOLDER           ends the jobs and what start has started, no other process, and forgets them
#
# Afterwards SLURM's commands find it by `export SLURM_CONF=FOLDER/slurm.conf`. Needs root and Debian's packages
# slurmctld, slurmd, slurm-client and munge (their services need not run). Nothing enforces memory or processor limits.
set -euo pipefail

patience=30 # seconds for each daemon to come up or go

fail() {
    echo "error: $*" >&2
    exit 1
}

# until_true WHAT COMMAND...: asks again until COMMAND succeeds.
until_true() {
    local what=$1 end=$((SECONDS + patience))
    shift
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$end" ] || fail "$what within $patience s; see $folder/log"
        sleep 0.05
    done
}

# daemon NAME COMMAND...: runs it in the foreground of a session of its own, so that the number kept is its own.
daemon() {
    local name=$1
    shift
    setsid "$@" </dev/null >>"$folder/log/$name.out" 2>&1 &
    echo "$! $1" >>"$folder/started"
}

# A number alone may have gone to another process since; one that has ended may wait for its parent to take note.
runs() {
    local state name
    read -r state name < <(ps -o stat=,comm= -p "$1" 2>/dev/null) && [ "${state::1}" != Z ] && [ "$name" = "${2##*/}" ]
}
gone() { ! runs "$@"; }

no_job() { [ -z "$(squeue -h)" ]; }
two_idle() { [ "$(sinfo -h -N -t idle -o %N | wc -l)" = 2 ]; }

configure() {
    local port=$1 me
    me=$(id -un)
    cat >"$folder/slurm.conf" <<CONF
# who: one machine plays the controller and two nodes
ClusterName=hgpscale-test
SlurmctldHost=localhost(127.0.0.1)
SlurmUser=$me
SlurmdUser=$me
NodeName=node[1-2] NodeHostName=localhost NodeAddr=127.0.0.1 Port=[$((port + 1))-$((port + 2))] CPUs=2 RealMemory=8000
PartitionName=test Nodes=ALL Default=YES MaxTime=INFINITE State=UP
# where: loopback alone, a munge of our own
SlurmctldPort=$port
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket=$folder/munge/socket,cred_expire=5
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool/%n
SlurmctldPidFile=$folder/run/slurmctld.pid
SlurmdPidFile=$folder/run/%n.pid
SlurmctldLogFile=$folder/log/slurmctld.log
SlurmdLogFile=$folder/log/%n.log
# what this machine may lack: control groups, mail, the cores and the memory that the nodes claim
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SlurmdParameters=config_overrides
MpiDefault=none
MailProg=/bin/true
# soon: jobs start and die within seconds
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=batch_sched_delay=1,sched_interval=2,bf_interval=2
KillWait=2
ReturnToService=2
CONF
    echo "CgroupPlugin=cgroup/v1" >"$folder/cgroup.conf" # read even where nothing uses it
}

start() {
    local port=${1:-17817} node
    [ "$(id -u)" = 0 ] || fail "SLURM's daemons start jobs as other users: run this as root"
    PATH=$PATH:/usr/sbin
    for command in munged slurmctld slurmd sinfo scontrol sbatch; do
        command -v "$command" >/dev/null ||
            fail "$command is missing: apt-get install slurmctld slurmd slurm-client munge"
    done
    [ ! -e "$folder/started" ] || fail "$folder: something was started there; stop it first"
    mkdir -p "$folder"/{state,spool,run,log}
    mkdir -pm 700 "$folder/munge"
    (umask 077 && head -c 128 /dev/urandom >"$folder/munge/key")
    configure "$port"
    export SLURM_CONF=$folder/slurm.conf
    trap stop ERR EXIT
    # --force: root may be who runs it.
    daemon munged "$(command -v munged)" --foreground --force --key-file="$folder/munge/key" \
        --socket="$folder/munge/socket" --pid-file="$folder/run/munged.pid" --seed-file="$folder/munge/seed" \
        --log-file="$folder/log/munged.log" --num-threads=2
    until_true "munge does not answer" munge -S "$folder/munge/socket" -n
    daemon slurmctld "$(command -v slurmctld)" -D -i
    until_true "slurmctld does not answer" scontrol ping
    for node in node1 node2; do
        daemon "$node" "$(command -v slurmd)" -D -N "$node"
    done
    until_true "the nodes are not idle" two_idle
    trap - ERR EXIT
    echo "export SLURM_CONF=$SLURM_CONF"
}

stop() {
    trap - ERR EXIT
    [ -e "$folder/started" ] || return 0
    local pid command
    export SLURM_CONF=$folder/slurm.conf
    if scontrol ping 2>/dev/null | grep -q UP; then # jobs are processes that outlive the daemons
        scancel --user="$(id -un)"
        until_true "jobs do not end" no_job
    fi
    # The controller before its nodes, which it would miss; munge last, which the others ask.
    while read -r pid command; do
        runs "$pid" "$command" && kill "$pid"
        until_true "$command ($pid) does not end" gone "$pid" "$command"
    done < <(tail -n +2 "$folder/started" && head -n 1 "$folder/started")
    rm "$folder/started"
}

[ $# -ge 2 ] || fail "usage: $(basename "$0") start|stop FOLDER [PORT]"
action=$1
folder=$(realpath -m "$2")
shift 2
case $action in
start) start "$@" ;;
stop) stop ;;
*) fail "expected start or stop, found $action" ;;
esac
