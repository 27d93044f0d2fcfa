/* Plain C: the two planes of a weight's row become 256 products, which the words index. */
#include "tables.h"

/* 16-bit products of one weight. */
static void read_row(const uint8_t *table, uint8_t weight, int planes, uint16_t *row) {
    const uint8_t *low = table + (size_t)weight * 256 * planes;
    if (planes == 1)
        for (int i = 0; i < 256; i++) row[i] = low[i];
    else
        for (int i = 0; i < 256; i++) row[i] = (uint16_t)(low[i] | low[256 + i] << 8);
}

static void look_up_block(const uint8_t *x, const uint8_t *weight, int64_t count,
                          const uint8_t *table, int planes, int lanes, int seven, uint32_t *sums) {
    uint16_t rows[4][256];
    int64_t k = 0;
    (void)seven;
    for (; k + 4 <= count; k += 4, x += 4 * TILE) { /* four terms for one read and write of a sum */
        for (int i = 0; i < 4; i++) read_row(table, weight[k + i], planes, rows[i]);
        for (int p = 0; p < lanes; p++)
            sums[p] += (uint32_t)rows[0][x[p]] + rows[1][x[TILE + p]] + rows[2][x[2 * TILE + p]] +
                       rows[3][x[3 * TILE + p]];
    }
    for (; k < count; k++, x += TILE) {
        read_row(table, weight[k], planes, rows[0]);
        for (int p = 0; p < lanes; p++) sums[p] += rows[0][x[p]];
    }
}

static void remap_row(uint8_t *to, const uint8_t *from, int64_t count, const uint8_t *table) {
    for (int64_t i = 0; i < count; i++) to[i] = table[from[i]];
}

static void multiply(const uint8_t *const *from, const int64_t *runs, int64_t n_runs, int64_t quads,
                     const int8_t *weight, int vectors, int pixels, int32_t *sums) {
    for (int p = 0; p < pixels; p++, sums += vectors * 16) {
        const int8_t *w = weight;
        for (int i = 0; i < vectors * 16; i++) sums[i] = 0;
        for (int64_t r = 0; r < n_runs; r++)
            for (const uint8_t *x = from[p] + runs[r]; x < from[p] + runs[r] + 4 * quads; x += 4)
                for (int i = 0; i < vectors * 16; i++, w += 4)
                    sums[i] = (int32_t)((uint32_t)sums[i] + (uint32_t)(x[0] * w[0] + x[1] * w[1] +
                                                                       x[2] * w[2] + x[3] * w[3]));
    }
}

#define sum_bytes sum_each
#define multiply_channels multiply_each
#define write_sums write_each
#define turn turn_numbers
#define copy_run copy_steps
#define remap_short remap_each
#include "level.h"

const Level bitproof_level_portable = FUNCTIONS;
