/* Copies of short runs, a part of level.h: calling memcpy for each would cost more than the copy. */
static inline void copy_bytes(uint8_t *to, const uint8_t *from, int64_t count) {
    if (count >= 16) { /* the last 16 bytes may overlap those before */
        for (int64_t i = 0; i + 16 < count; i += 16) memcpy(to + i, from + i, 16);
        memcpy(to + count - 16, from + count - 16, 16);
    } else if (count >= 4) {
        for (int64_t i = 0; i + 4 < count; i += 4) memcpy(to + i, from + i, 4);
        memcpy(to + count - 4, from + count - 4, 4);
    } else {
        for (int64_t i = 0; i < count; i++) to[i] = from[i];
    }
}

static inline void copy_steps(uint8_t *to, const uint8_t *from, int64_t count, int64_t step) {
    if (step == 1)
        copy_bytes(to, from, count);
    else
        for (int64_t i = 0; i < count; i++) to[i] = from[i * step];
}

static inline void remap_each(uint8_t *to, const uint8_t *from, int64_t count,
                              const uint8_t *tables, int64_t terms) {
    for (int64_t t = 0; t < terms; t++, to += count, tables += 256)
        for (int64_t i = 0; i < count; i++) to[i] = tables[from[i]];
}

/* Add whole numbers, of which those of a pixel's filters are neighbours, to rows of TILE pixels. */
static inline void turn_numbers(uint32_t *to, const float *from, int64_t pixels, int64_t filters,
                                int64_t step) {
    for (int64_t f = 0; f < filters; f++, to += TILE)
        for (int64_t p = 0; p < pixels; p++) to[p] += (uint32_t)(int32_t)from[p * step + f];
}
