# Completion of Pollux's programs for bash, by their own names and as
# "pollux [-i INSTANCE] PROGRAM".  tests/docs/test_completion.py compares the
# options with the sources.

# program: its options; those that take a value end in '='.
_pollux_options() {
    case $1 in
    master) echo "-C= --config= -M= --cyrus-config= -p= --pid-file= -d --daemon -D --do-not-close-streams -L= --log-file= -l= --listen-queue= -j= --janitor-full-scans= -v -V --version -h --help --check-config" ;;
    sync_client) echo "-C= --config= -A --all-users -u --userids -m --mailboxes -s --sieve-mode -M -r --rolling -R --foreground-rolling -1 --rolling-once -n= --channel= -S= --server= -f= --input-file= -F= --shutdown-file= -d= --delay= -t= --timeout= -w= --delayed-startup= -o --connect-once -N --skip-locked -O --no-copyback -b --by-state --diff --dry-run --remove-extra --jobs= --anew --remainder= --wrong-way --verify -p= --dest-partition= -L --local-only -z --require-compression -a --stage-to-archive -l --verbose-logging -v --verbose -h --help" ;;
    ctl_failover) echo "-C= --config= -n= --channel= --json --force --timeout= --watch --color= -h --help" ;;
    synclog) echo "-C= --from= --to= --json -h --help" ;;
    ctl_backup) echo "-C= --keep= --rate= --generation= --user= --format= --from= --folder= --json -h --help" ;;
    ctl_cyrusdb) echo "-C= -r --recover -x --no-cleanup -c --checkpoint --verify --json -h --help" ;;
    ctl_deliver) echo "-C= -d -E= -f= --json -h --help" ;;
    ctl_history) echo "-C= -u= -m= --since= --until= --headers --format= --json -h --help" ;;
    ctl_mboxlist) echo "-C= -d -x -y -p= -u -L -v -m -a -w -i -f= --json -h --help" ;;
    cyr_df) echo "-C= -m --json -h --help" ;;
    cyr_expire) echo "-C= -A= --archive-duration= -D= --delete-duration= -E= --expire-duration= -X= --expunge-duration= -a --ignore-annotations -c --no-conversations -x --no-expunge -p= --prefix= -t --prune-userflags -u= --userid= -v --verbose -b= --batchsize= --json -h --help" ;;
    cyr_info) echo "-C= -M= -n= -s= --json -h --help" ;;
    mbexamine) echo "-C= -u= -s= -q -c --json -h --help" ;;
    mbpath) echo "-C= -l -m -q -s -u -a -A -D -M -S -U -j -7 --json -h --help" ;;
    quota) echo "-C= -f -n -q -J -d= -u --json -h --help" ;;
    reconstruct) echo "-C= -r -n -q -s -u -G -f -x -U -o -O -M -I -R -k -g -p= -V= -P --json -h --help" ;;
    squatter) echo "-C= -i -r -u -X -F -R -v -q -a -d -s -B -p -U -Z -n= -N= -S= -T= -f= -z= -t= -o -O= --json -h --help" ;;
    unexpunge) echo "-C= -l -a -t= -u -d -v -f= --json -h --help" ;;
    esac
}

# program: the words that it takes first.
_pollux_verbs() {
    case $1 in
    ctl_failover) echo "status fence unfence swap promote export rejoin" ;;
    synclog) echo "dump verify repair" ;;
    ctl_backup) echo "create list verify restore export import" ;;
    ctl_history) echo "list cat export drop" ;;
    cyr_info) echo "conf conf-all conf-default conf-lint version" ;;
    esac
}

# _pollux_complete PROGRAM: the word under the cursor, the ones before it are
# from index $2 on.
_pollux_complete() {
    local program=$1 first=$2 cur=${COMP_WORDS[COMP_CWORD]}
    local prev=${COMP_WORDS[COMP_CWORD-1]} options verbs word i had=
    options=$(_pollux_options "$program")
    verbs=$(_pollux_verbs "$program")
    COMPREPLY=()

    if [ "$prev" = "--color" ] || { [ "$prev" = "=" ] && [ "${COMP_WORDS[COMP_CWORD-2]}" = "--color" ]; }; then
        COMPREPLY=($(compgen -W "auto always never" -- "${cur#=}"))
        return
    fi
    if [[ $program == ctl_@(backup|history) && $prev == --format ]]; then
        COMPREPLY=($(compgen -W "maildir mbox" -- "$cur"))
        return
    fi
    # The value of an option: a file, if it is one.
    if [[ " $options " == *" $prev= "* ]]; then
        case $prev in
        -C | -M | -p | -L | -F | -f | --*config | --*file | --from)
            COMPREPLY=($(compgen -f -- "$cur"))
            ;;
        esac
        return
    fi
    if [[ $cur == -* ]]; then
        COMPREPLY=($(compgen -W "${options//=/}" -- "$cur"))
        return
    fi
    for ((i = first; i < COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        [[ " $verbs " == *" $word "* ]] && had=1
    done
    if [ -n "$verbs" ] && [ -z "$had" ]; then
        COMPREPLY=($(compgen -W "$verbs" -- "$cur"))
    else
        COMPREPLY=($(compgen -f -- "$cur"))
    fi
}

_pollux_program() {
    _pollux_complete "${1##*/}" 1
}

_pollux() {
    local cur=${COMP_WORDS[COMP_CWORD]} at=1 conf=${POLLUX_CONF:-/etc/pollux}
    COMPREPLY=()
    if [ "${COMP_WORDS[1]}" = -i ]; then
        if [ "$COMP_CWORD" -eq 2 ]; then
            COMPREPLY=($(compgen -W "$(cd "$conf" 2>/dev/null && ls -d */ 2>/dev/null | tr -d /)" -- "$cur"))
            return
        fi
        at=3
    fi
    if [ "$COMP_CWORD" -eq "$at" ]; then
        COMPREPLY=($(compgen -W "-i master sync_client ctl_failover synclog ctl_backup ctl_cyrusdb ctl_deliver ctl_history ctl_mboxlist cyr_df cyr_expire cyr_info mbexamine mbpath quota reconstruct squatter unexpunge" -- "$cur"))
        return
    fi
    _pollux_complete "${COMP_WORDS[at]}" $((at + 1))
}

complete -F _pollux pollux
complete -F _pollux_program sync_client ctl_failover synclog ctl_backup \
    ctl_cyrusdb ctl_deliver ctl_history ctl_mboxlist cyr_df cyr_expire \
    cyr_info mbexamine mbpath reconstruct squatter unexpunge
