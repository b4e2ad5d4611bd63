#!/bin/sh
# In force only while Levier works on packages: `policy-rc.d [OPTIONS] NAME ACTION [RUNLEVEL]`. Services that ran before
# may be restarted, others may only be stopped. Status 101: forbidden (specification of invoke-rc.d's policy layer).
while case $1 in --*) : ;; *) false ;; esac do shift; done
case $2 in *restart* | *start*) ;; *) exit 0 ;; esac
grep -qxF -e "$1" -e "$1.service" /run/levier/packages.active || exit 101
