# Everything an installation may change on a host, one line each: SUBJECT, a tab, what is so. Two looks at the same world
# print the same: no times, no process ids, no identities that are made anew. Files hold secrets: digests only.
export LC_ALL=C
set -u
told() { sed "s|^|$1\t|"; }

# What tools rewrite on their own: their backups, locks and caches.
ours='^/etc/(passwd-|group-|shadow-|gshadow-|subuid-|subgid-|\.pwd\.lock|ld\.so\.cache|\.updated|mtab|resolv\.conf|adjtime)'
find /etc /var/lib/levier -printf '%p %y %m %u:%g %l\n' | grep -Ev "$ours" | sort | told file
accounts='^/etc/(passwd|group|shadow|gshadow) '
find /etc -type f -print0 | sort -z | xargs -0 sha256sum | awk '{ print $2, $1 }' | grep -Ev "$ours|$accounts" | told content
getent passwd | cut -d: -f1,6,7 | sort | told account
getent group | cut -d: -f1,4 | sort | told group
find /var/lib /opt /usr/local -maxdepth 1 -printf '%p %y %m %u:%g\n' | sort | told directory
if [ -e /opt/levier ]; then
    find /opt/levier -maxdepth 3 -printf '%p %y %m %u:%g %l\n' | sort | told release
    # Tens of thousands of files, in place by one rename: their names are enough.
    find /opt/levier -mindepth 4 -printf '%p\n' | sort | sha256sum | told 'release below'
fi
dpkg-query -W -f '${Package} ${Version} ${db:Status-Abbrev}\n' | told package
awk '/^Package:/ { name = $2 } /^Auto-Installed: 1/ { print name }' /var/lib/apt/extended_states 2>/dev/null \
    | sort | told 'automatic package'
awk '{ print $2, $3 }' /proc/self/mounts | sort | told mount

# Which units are enabled, the links in /etc/systemd say. What the system starts by itself now and then is no doing of ours.
passing='^(run-|session|cloud-|user|systemd-|apt-daily|dpkg-db|logrotate|man-db|e2scrub|fstrim|init\.scope|-\.|phpsessionclean|motd|ssh@)'
systemctl list-units --all --no-legend --plain --type=service,socket,timer,mount \
    | awk '$3 == "active" || $3 == "failed" || $3 == "activating" { print $1, $3, $4 }' \
    | grep -Ev "$passing" | sort | told unit
# Ports that the kernel chose (ip_local_port_range) are those of commands that come and go, such as rabbitmqctl.
ss -ltnH | awk '{ port = $4; sub(/.*:/, "", port) } port < 32768 { print $4 }' | sort -u | told listens

if systemctl --quiet is-active rabbitmq-server.service; then
    # This script comes by standard input, which rabbitmqctl would swallow.
    rabbitmqctl --quiet export_definitions - < /dev/null | python3 -Ic '
import json, sys
all = json.load(sys.stdin)
for user in all["users"]: print("user", user["name"], user["tags"])
for vhost in all["vhosts"]: print("vhost", vhost["name"])
for p in all["permissions"]: print("permission", p["user"], p["vhost"], p["configure"], p["write"], p["read"])
' | sort | told queue
fi

systemctl --quiet is-active mariadb.service || exit 0
ask() { mariadb --batch --skip-column-names --execute "$1" < /dev/null; }
has() { [ "$(ask "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema='$1' AND table_name='$2'")" = 1 ]; }
ask "SELECT schema_name, default_character_set_name FROM information_schema.schemata" | sort | told database
ask "SELECT user, host, MD5(authentication_string) FROM mysql.user" | sort | told 'database user'
ask "SELECT db, user, host FROM mysql.db" | sort | told 'database grant'
ask "SET group_concat_max_len = 1000000; SELECT table_schema, COUNT(*), MD5(GROUP_CONCAT(table_name, column_name, column_type
     ORDER BY table_name, ordinal_position)) FROM information_schema.columns
     WHERE table_schema NOT IN ('mysql', 'sys', 'information_schema', 'performance_schema') GROUP BY table_schema" \
    | sort | told columns
for schema in $(ask "SELECT table_schema FROM information_schema.tables WHERE table_name = 'alembic_version'"); do
    ask "SELECT '$schema', version_num FROM $schema.alembic_version" | sort | told 'schema version'
done
if has keystone service; then
    ask "SELECT type, JSON_VALUE(extra, '\$.name'), JSON_VALUE(extra, '\$.description'), enabled FROM keystone.service" | sort | told service
    ask "SELECT s.type, e.interface, e.url, e.region_id FROM keystone.endpoint e LEFT JOIN keystone.service s
         ON s.id = e.service_id" | sort | told endpoint
    ask "SELECT name, domain_id FROM keystone.local_user" | sort | told 'keystone user'
    ask "SELECT name, domain_id FROM keystone.project" | sort | told project
    ask "SELECT name FROM keystone.application_credential" | sort | told 'application credential'
    ask "SELECT name FROM keystone.role" | sort | told role
    ask "SELECT a.type, COALESCE(u.name, a.actor_id), COALESCE(p.name, a.target_id), r.name FROM keystone.assignment a
         LEFT JOIN keystone.local_user u ON u.user_id = a.actor_id LEFT JOIN keystone.project p ON p.id = a.target_id
         LEFT JOIN keystone.role r ON r.id = a.role_id" | sort | told assignment
fi
if has nova_api aggregates; then
    ask "SELECT a.name, h.host FROM nova_api.aggregates a LEFT JOIN nova_api.aggregate_hosts h
         ON h.aggregate_id = a.id" | sort | told aggregate
    ask "SELECT a.name, m.\`key\`, m.value FROM nova_api.aggregates a JOIN nova_api.aggregate_metadata m
         ON m.aggregate_id = a.id" | sort | told 'aggregate metadata'
    ask "SELECT name FROM nova_api.flavors" | sort | told flavor
    ask "SELECT name FROM nova_api.key_pairs" | sort | told 'key pair'
    ask "SELECT binary_name, host, disabled FROM (SELECT \`binary\` AS binary_name, host, disabled, deleted FROM nova.services) s
         WHERE deleted = 0" | sort | told 'nova service'
    ask "SELECT uuid, host FROM nova.instances WHERE deleted = 0" | told server
    ask "SELECT host FROM nova_api.host_mappings" | sort | told 'mapped host'
    ask "SELECT name FROM nova_api.cell_mappings" | sort | told cell
fi
if has neutron networks; then
    ask "SELECT name FROM neutron.networks" | sort | told network
    ask "SELECT name FROM neutron.ports" | sort | told port
    ask "SELECT name FROM neutron.routers" | sort | told router
fi
if has glance images; then ask "SELECT name FROM glance.images WHERE deleted = 0" | sort | told image; fi
if has cinder volumes; then ask "SELECT display_name FROM cinder.volumes WHERE deleted = 0" | sort | told volume; fi
exit 0
