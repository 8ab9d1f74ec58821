// SPDX-License-Identifier: Apache-2.0
#include "common/proto/h2_hpack.h"

#include <nghttp2/nghttp2.h>
#include <stdlib.h>

enum {
    STACK_FIELDS = 32,
    CODEC_SIZE = 2560, // what libnghttp2 takes for one coder with an empty table, about
    FIELD_OVERHEAD = 16, // literal: type byte and two lengths
};

void h2_hpack_dec_init(struct h2_hpack_dec *dec, uint32_t table_size) {
    *dec = (struct h2_hpack_dec){.table_size = table_size};
}

void h2_hpack_dec_fini(struct h2_hpack_dec *dec) {
    if (dec->inflater != NULL) {
        nghttp2_hd_inflate_del(dec->inflater);
        dec->inflater = NULL;
    }
}

static bool feed_update_zero(nghttp2_hd_inflater *inflater) {
    static const uint8_t update = H2_HPACK_UPDATE_ZERO;
    nghttp2_nv nv;
    int flags = 0;
    return nghttp2_hd_inflate_hd2(inflater, &nv, &flags, &update, 1, 0) == 1;
}

static void inflater_open(struct h2_hpack_dec *dec) {
    CHECK(nghttp2_hd_inflate_new(&dec->inflater) == 0);
    if (dec->is_acked) {
        CHECK(nghttp2_hd_inflate_change_table_size(dec->inflater, dec->table_size) == 0);
        if (dec->has_update && dec->table_size < H2_HPACK_TABLE_DEFAULT) {
            // The peer said so before; a table of size 0 has nothing else to restore.
            CHECK(feed_update_zero(dec->inflater));
        }
    }
}

void h2_hpack_dec_acked(struct h2_hpack_dec *dec) {
    if (dec->is_acked) {
        return;
    }
    dec->is_acked = true;
    if (dec->table_size == 0) {
        h2_hpack_dec_fini(dec); // the table is emptied; a new inflater starts in the same state
    } else if (dec->inflater != NULL) {
        CHECK(nghttp2_hd_inflate_change_table_size(dec->inflater, dec->table_size) == 0);
    }
}

static void block_done(struct h2_hpack_dec *dec) {
    CHECK(nghttp2_hd_inflate_end_headers(dec->inflater) == 0);
    if (dec->is_acked) {
        dec->has_update = true; // or it would have failed
        if (dec->table_size == 0) {
            h2_hpack_dec_fini(dec);
        }
    }
}

enum h2_hpack_result h2_hpack_decode(struct h2_hpack_dec *dec, struct slice *in, bool is_last,
                                     struct h2_field *ret_field) {
    if (dec->inflater == NULL) {
        inflater_open(dec);
    }
    nghttp2_nv nv;
    int flags = 0;
    ssize_t used = nghttp2_hd_inflate_hd2(dec->inflater, &nv, &flags, in->ptr, in->len, is_last);
    if (used < 0) {
        return H2_HPACK_ERROR;
    }
    *in = slice_skip(*in, (size_t)used);
    if ((flags & NGHTTP2_HD_INFLATE_EMIT) != 0) {
        *ret_field = (struct h2_field){
            .name = slice_make(nv.name, nv.namelen),
            .value = slice_make(nv.value, nv.valuelen),
            .sensitive = (nv.flags & NGHTTP2_NV_FLAG_NO_INDEX) != 0,
        };
        return H2_HPACK_FIELD;
    }
    if ((flags & NGHTTP2_HD_INFLATE_FINAL) != 0) {
        block_done(dec);
        return H2_HPACK_DONE;
    }
    // Nothing came out, so all of the input must have gone in.
    return is_last || in->len > 0 ? H2_HPACK_ERROR : H2_HPACK_MORE;
}

size_t h2_hpack_dec_memory(const struct h2_hpack_dec *dec) {
    return dec->inflater == NULL
               ? 0
               : CODEC_SIZE + nghttp2_hd_inflate_get_dynamic_table_size(dec->inflater);
}

void h2_hpack_enc_init(struct h2_hpack_enc *enc, bool keep) {
    *enc = (struct h2_hpack_enc){.keep = keep};
}

void h2_hpack_enc_fini(struct h2_hpack_enc *enc) {
    if (enc->deflater != NULL) {
        nghttp2_hd_deflate_del(enc->deflater);
        enc->deflater = NULL;
    }
}

size_t h2_hpack_bound(const struct h2_field *fields, size_t n_fields) {
    size_t bound = 16;
    for (size_t i = 0; i < n_fields; i++) {
        bound += fields[i].name.len + fields[i].value.len + FIELD_OVERHEAD;
    }
    return bound;
}

size_t h2_hpack_encode(struct h2_hpack_enc *enc, const struct h2_field *fields, size_t n_fields,
                       uint8_t *buf, size_t cap) {
    if (enc->deflater == NULL) {
        CHECK(nghttp2_hd_deflate_new(&enc->deflater, 0) == 0);
    }
    nghttp2_nv stack_nvs[STACK_FIELDS];
    nghttp2_nv *nvs = n_fields <= STACK_FIELDS ? stack_nvs : xcalloc(n_fields, sizeof(*nvs));
    for (size_t i = 0; i < n_fields; i++) {
        // libnghttp2 takes non-const pointers and does not write through them.
        nvs[i] = (nghttp2_nv){
            .name = (uint8_t *)(uintptr_t)fields[i].name.ptr,
            .namelen = fields[i].name.len,
            .value = (uint8_t *)(uintptr_t)fields[i].value.ptr,
            .valuelen = fields[i].value.len,
            .flags = fields[i].sensitive ? NGHTTP2_NV_FLAG_NO_INDEX : NGHTTP2_NV_FLAG_NONE,
        };
    }
    ssize_t n = nghttp2_hd_deflate_hd(enc->deflater, buf, cap, nvs, n_fields);
    CHECK(n >= 0);
    size_t len = (size_t)n;
    // A fresh deflater begins with the update to size 0; no field can begin with these bits. It is
    // the sender's to place, since blocks may leave in another order than they were encoded.
    if (len > 0 && buf[0] == H2_HPACK_UPDATE_ZERO) {
        len--;
        memmove(buf, buf + 1, len);
    }
    if (nvs != stack_nvs) {
        free(nvs);
    }
    if (!enc->keep) {
        h2_hpack_enc_fini(enc);
    }
    return len;
}

size_t h2_hpack_enc_memory(const struct h2_hpack_enc *enc) {
    return enc->deflater == NULL ? 0 : CODEC_SIZE;
}
