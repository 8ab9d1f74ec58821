// SPDX-License-Identifier: Apache-2.0
#include "ztun/admin.h"
#include "ztun/control.h"

void admin_config_dump(struct control *control, struct http_exchange *exchange,
                       const struct http_query *query) {
    (void)control;
    (void)query;
    admin_reply_text(exchange, 500, "not built yet\n");
}

void admin_status(struct control *control, struct http_exchange *exchange,
                  const struct http_query *query) {
    (void)control;
    (void)query;
    admin_reply_text(exchange, 500, "not built yet\n");
}
