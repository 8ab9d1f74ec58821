// SPDX-License-Identifier: Apache-2.0

#include "ctl/local_usage.h"

void local_usage(FILE *out) {
    fputs("usage: ztunctl local COMMAND [--name LAB] [--state-dir DIR]\n"
          "  up [PATH...] [--nodes N] [--ip-families IPv4|IPv6|IPv4,IPv6] [--wait[=S]]\n"
          "     [--no-mesh] [--no-host] [--ztun-bin FILE] [--ztun-arg ARG]... [--ztun-env K=V]...\n"
          "     [--waypoint-bin FILE] [--waypoint-arg ARG]... [--waypoint-env K=V]...\n"
          "     [--images FILE] [--dns NAME=IP]... [--cluster-domain NAME]\n"
          "                        start a lab, with the objects of files and directories\n"
          "  apply -f PATH... [--wait[=S]] [--validate=strict|warn|ignore]\n"
          "                                    create or change objects (- is stdin)\n"
          "  delete -f PATH... | KIND NAME... | KIND -l SELECTOR | KIND --all  [--grace S]\n"
          "  get KIND[,KIND] [NAME...] [-n NS|-A] [-l SELECTOR] [-w]\n"
          "      [-o wide|yaml|json|name|jsonpath=TEMPLATE]\n"
          "  describe KIND [NAME...] | KIND/NAME... [-n NS|-A] [-l SELECTOR]\n"
          "  exec NS/POD [-c C] -- CMD...      run a command in a pod; NODE instead of NS/POD: in\n"
          "                                    the node's network namespace\n"
          "  logs NS/POD|NODE|supervisor [-c C] [-f] [--tail N] [-p]\n"
          "  scale KIND/NAME|NS/NAME --replicas N\n"
          "  create namespace NAME | create|replace -f PATH...\n"
          "  expose KIND/NAME --port N [--target-port P] [--type T] [--service NAME]\n"
          "  patch KIND/NAME -p JSON [--type strategic|merge|json]     edit KIND/NAME\n"
          "  set image KIND/NAME CONTAINER=IMAGE...\n"
          "  rollout status|history|undo|restart KIND/NAME [--timeout S] [--to-revision N]\n"
          "  label|annotate KIND/NAME KEY=VALUE... KEY-... [--overwrite]\n"
          "  port-forward KIND/NAME [LOCAL:]PORT...\n"
          "  restart NS/NAME                   its pods, one after the other\n"
          "  wait [--wait=S]                   until all pods and the mesh are ready\n"
          "  status [-o json]\n"
          "  down                              end the lab, or remove what a crash left\n"
          "Commands of kubectl take -n NS (default: default), KIND NAME as well as KIND/NAME.\n"
          "ZTUN_LAB names the lab where --name does not (default: lab).\n",
          out);
}
