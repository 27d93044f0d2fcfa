/* Convolutions of 8-bit words, from words to words in one pass; a part of level.h.
 *
 * A tile of pixels is copied with its padding into scratch that stays in the cache, where a window
 * is a few runs of neighbouring bytes. Weights lie in blocks of 16 filters a vector, four bytes of
 * each: what a register of 32-bit sums takes at a time. Before it, a level defines:
 *   multiply(from, runs, n_runs, quads, weight, vectors, pixels, sums): sums of `vectors` times 16
 *     filters for each of `pixels` windows, whose runs of 4 * quads bytes start at from[p] + runs[r]
 *   multiply_channels(from, runs, pairs, weight, channels, vectors, sums): sums of `vectors` times
 *     16 channels, a filter each
 *   sum_bytes(from, count): the sum of some bytes
 *   write_sums(job, sums, filter, word_sum, place, count): see `write_each`
 */
enum {
    INT8_PIXELS = 256, /* of a tile, or of the small tiles that are computed together */
    INT8_VECTORS = 4,  /* of 16 filters that share what is read of a window */
    INT8_WINDOWS = 8   /* that share what is read of the weights */
};

typedef struct {
    const uint8_t *from[INT8_PIXELS + INT8_WINDOWS]; /* first word under the window */
    int64_t place[INT8_PIXELS];                      /* pixel of the output, over all images */
    int32_t word_sum[INT8_PIXELS];                   /* of the words under the window */
    int64_t pixels;
} Int8Tile;

/* How a kernel lies in scratch, and how its weights are packed. */
typedef struct {
    int64_t n_runs, bytes, quads; /* bytes of a run, and how many fours hold them */
    int64_t filters, padded;      /* of a group */
    int64_t depth;                /* channels of a group */
} Int8Shape;

static inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

static Int8Shape describe_int8(int64_t channels, int64_t filters, int64_t groups, int64_t height,
                               int64_t width, int joined) {
    Int8Shape shape; /* `joined`: columns of a kernel follow one another, as all channels do */
    shape.depth = channels / groups;
    shape.n_runs = joined ? height : height * width;
    shape.bytes = joined ? width * channels : shape.depth;
    shape.quads = (shape.bytes + 3) / 4;
    shape.filters = filters / groups;
    shape.padded = (shape.filters + 15) / 16 * 16;
    return shape;
}

/* Plain C for what a level may have a faster function for. */
static inline uint32_t sum_each(const uint8_t *from, int64_t count) {
    uint32_t sum = 0;
    for (int64_t i = 0; i < count; i++) sum += from[i];
    return sum;
}

static inline void multiply_each(const uint8_t *from, const int64_t *runs, int64_t pairs,
                                 const int16_t *weight, int64_t channels, int vectors,
                                 int32_t *sums) {
    for (int i = 0; i < 16 * vectors; i++) sums[i] = 0;
    for (int64_t t = 0; t < pairs; t++, weight += 2 * channels) {
        const uint8_t *x = from + runs[2 * t], *y = from + runs[2 * t + 1];
        for (int i = 0; i < 16 * vectors; i++)
            sums[i] += x[i] * weight[2 * i] + y[i] * weight[2 * i + 1];
    }
}

/* Turn sums into what the job asks for. */
static inline void write_each(const Int8Convolution *job, const int32_t *sums, int64_t filter,
                               int32_t word_sum, int64_t place, int64_t count) {
    for (int64_t i = 0; i < count; i++) {
        uint32_t sum = (uint32_t)sums[i] * (uint32_t)job->scale + (uint32_t)job->start[filter + i];
        if (job->shift != NULL) sum += (uint32_t)job->shift[filter + i] * (uint32_t)word_sum;
        const float value = (float)(int32_t)sum * job->how.multiplier[filter + i];
        if (job->result == RESULT_REAL)
            ((float *)job->out)[place + i] = value;
        else if (job->result == RESULT_SUMS)
            ((int32_t *)job->out)[place + i] = (int32_t)sum;
        else if (job->result == RESULT_LONG_WORDS)
            ((int16_t *)job->out)[place + i] = (int16_t)to_word(value, &job->how);
        else
            ((uint8_t *)job->out)[place + i] = (uint8_t)to_word(value, &job->how);
    }
}

/* Copy the words from (y0, x0) on, which may lie outside the map. */
static void copy_words(const Int8Convolution *job, int64_t image, int64_t y0, int64_t x0,
                       int64_t rows, int64_t columns, uint8_t *to) {
    const int64_t c = job->channels, pitch = columns * c;
    const uint8_t pad = (uint8_t)job->pad_word;
    const int64_t left = x0 < 0 ? least(-x0, columns) : 0;
    const int64_t beyond = x0 + columns - job->width;
    const int64_t right = beyond > 0 ? least(beyond, columns - left) : 0;
    const int64_t middle = (columns - left - right) * c;
    for (int64_t y = y0; y < y0 + rows; y++, to += pitch) {
        if (y < 0 || y >= job->height || middle == 0) {
            memset(to, pad, (size_t)pitch);
            continue;
        }
        const uint8_t *from =
            job->words + ((image * job->height + y) * job->width + x0 + left) * c;
        if (left) memset(to, pad, (size_t)(left * c));
        if (right) memset(to + left * c + middle, pad, (size_t)(right * c));
        if (!job->signed_words)
            memcpy(to + left * c, from, (size_t)middle);
        else
            for (int64_t i = 0; i < middle; i++) to[left * c + i] = from[i] ^ 128;
    }
}

static void add_pixels(const Int8Convolution *job, int64_t piece, int64_t pitch, const uint8_t *words,
                       Int8Tile *tile) {
    const int64_t across = (job->out_width + job->tile_width - 1) / job->tile_width;
    const int64_t down = (job->out_height + job->tile_height - 1) / job->tile_height;
    const int64_t image = piece / (down * across), at = piece % (down * across);
    const int64_t y0 = at / across * job->tile_height, x0 = at % across * job->tile_width;
    for (int64_t y = y0; y < least(y0 + job->tile_height, job->out_height); y++)
        for (int64_t x = x0; x < least(x0 + job->tile_width, job->out_width); x++) {
            tile->from[tile->pixels] =
                words + (y - y0) * job->stride_y * pitch + (x - x0) * job->stride_x * job->channels;
            tile->place[tile->pixels++] = (image * job->out_height + y) * job->out_width + x;
        }
}

/* Filters [first, last) of one group on one tile; `own` numbers their weights, which may be an
 * image's. */
static void multiply_tile(const Int8Convolution *job, const Int8Shape *shape, const int64_t *runs,
                          int64_t group, int64_t own, int64_t first, int64_t last, Int8Tile *tile) {
    int32_t sums[INT8_WINDOWS * INT8_VECTORS * 16] __attribute__((aligned(64)));
    const int64_t terms = shape->n_runs * shape->quads * 4;
    const int8_t *weight = job->weight + (own * shape->padded + first) * terms;
    if (job->shift != NULL)
        for (int64_t p = 0; p < tile->pixels; p++) {
            uint32_t sum = 0;
            for (int64_t r = 0; r < shape->n_runs; r++)
                sum += sum_bytes(tile->from[p] + runs[r], shape->bytes);
            tile->word_sum[p] = (int32_t)sum;
        }
    for (int64_t m = first; m < last; m += 16 * INT8_VECTORS) {
        const int vectors = (int)(least(last - m, 16 * INT8_VECTORS) / 16);
        const int64_t windows = vectors == INT8_VECTORS ? 6 : INT8_WINDOWS;
        const int64_t count = least(shape->filters - m, 16 * vectors);
        for (int64_t p = 0; p < tile->pixels; p += windows) {
            const int64_t pixels = least(tile->pixels - p, windows);
            multiply(tile->from + p, runs, shape->n_runs, shape->quads, weight, vectors,
                     (int)pixels, sums);
            for (int64_t i = 0; i < pixels; i++)
                write_sums(job, sums + i * vectors * 16, own * shape->padded + m,
                       tile->word_sum[p + i],
                       tile->place[p + i] * job->filters + group * shape->filters + m, count);
        }
        weight += vectors * 16 * terms;
    }
}

/* The same where each channel has its own filter. */
static void multiply_by_channel(const Int8Convolution *job, const Int8Shape *shape,
                                const int64_t *runs, const Int8Tile *tile) {
    int32_t sums[16 * INT8_VECTORS] __attribute__((aligned(64)));
    const int64_t channels = job->channels, pairs = (shape->n_runs + 1) / 2;
    for (int64_t c = 0; c < channels; c += 16 * INT8_VECTORS) {
        const int64_t count = least(channels - c, 16 * INT8_VECTORS);
        const int16_t *weight = (const int16_t *)job->weight + 2 * c;
        for (int64_t p = 0; p < tile->pixels; p++) {
            multiply_channels(tile->from[p] + c, runs, pairs, weight, channels,
                              (int)((count + 15) / 16), sums);
            write_sums(job, sums, c, 0, tile->place[p] * channels + c, count);
        }
    }
}

/* Tiles [first, last), or parts of the filters of each; 0, or -1 if there is no memory. */
static int int8_convolve(const void *data, int64_t first, int64_t last) {
    const Int8Convolution *job = data;
    const Int8Shape shape =
        describe_int8(job->channels, job->filters, job->groups, job->kernel_height,
                      job->kernel_width, job->groups == 1 && job->dilation_x == 1 && !job->by_channel);
    const int64_t rows = (job->tile_height - 1) * job->stride_y +
                         (job->kernel_height - 1) * job->dilation_y + 1;
    const int64_t columns =
        (job->tile_width - 1) * job->stride_x + (job->kernel_width - 1) * job->dilation_x + 1;
    const int64_t pitch = columns * job->channels, piece = rows * pitch;
    const int64_t together =
        job->by_image ? 1 : INT8_PIXELS / (job->tile_height * job->tile_width);
    const size_t own = sizeof(Int8Tile) + (size_t)(shape.n_runs + 1) * sizeof(int64_t);
    uint8_t *scratch = malloc(own + (size_t)(together * piece) + SLACK);
    if (scratch == NULL) return -1;
    Int8Tile *tile = (Int8Tile *)scratch;
    int64_t *runs = (int64_t *)(tile + 1);
    uint8_t *words = scratch + own;
    memset(words + together * piece, 0, SLACK);
    for (int64_t r = 0; r < shape.n_runs; r++) {
        const int64_t columns_of = shape.n_runs / job->kernel_height;
        runs[r] = r / columns_of * job->dilation_y * pitch +
                  r % columns_of * job->dilation_x * job->channels;
    }
    runs[shape.n_runs] = 0; /* partner of an odd tap; its weight is 0 */
    const int64_t across = (job->out_width + job->tile_width - 1) / job->tile_width;
    const int64_t down = (job->out_height + job->tile_height - 1) / job->tile_height;
    const int64_t part = job->parts > 1 ? 16 * INT8_VECTORS : shape.padded;
    while (first < last) {
        const int64_t tiles = job->parts > 1 ? 1 : least(together, last - first);
        const int64_t image = first / job->parts / (down * across);
        const int64_t from_part = first % job->parts;
        const int64_t to_part = job->parts > 1 ? least(job->parts, from_part + last - first) : 1;
        tile->pixels = 0;
        for (int64_t n = 0, index = first / job->parts; n < tiles; n++, index++) {
            const int64_t at = index % (down * across);
            copy_words(job, index / (down * across),
                       at / across * job->tile_height * job->stride_y - job->pad_y,
                       at % across * job->tile_width * job->stride_x - job->pad_x, rows, columns,
                       words + n * piece);
            add_pixels(job, index, pitch, words + n * piece, tile);
        }
        first += job->parts > 1 ? to_part - from_part : tiles;
        for (int i = 0; i < INT8_WINDOWS; i++) /* read where the last windows are few, not kept */
            tile->from[tile->pixels + i] = tile->from[tile->pixels - 1];
        if (job->by_channel) {
            multiply_by_channel(job, &shape, runs, tile);
            continue;
        }
        for (int64_t g = 0; g < job->groups; g++) {
            multiply_tile(job, &shape, runs, g, job->by_image ? image : g,
                          from_part * part, least(to_part * part, shape.padded), tile);
            for (int64_t p = 0; p < tile->pixels + INT8_WINDOWS; p++) tile->from[p] += shape.depth;
        }
    }
    free(scratch);
    return 0;
}

/* Filters [first, last): 8-bit weights, plus a number for each filter, to blocks for `multiply`. */
static int int8_pack(const void *data, int64_t first, int64_t last) {
    const Int8Pack *job = data;
    const int joined = job->groups == 1 && job->dilation_x == 1;
    const Int8Shape shape = describe_int8(job->depth * job->groups, job->filters, job->groups,
                                          job->kernel_height, job->kernel_width, joined);
    const int64_t area = job->kernel_height * job->kernel_width;
    const int64_t terms = shape.n_runs * shape.quads * 4;
    for (int64_t f = first; f < last; f++) {
        const int64_t group = f / shape.filters, m = f % shape.filters, block = m / 64 * 64;
        const int64_t vectors = least(shape.padded - block, 16 * INT8_VECTORS) / 16;
        int8_t *blocks = job->packed + (group * shape.padded + block) * terms +
                         (m - block) / 16 * 64 + m % 16 * 4;
        const uint8_t flip = (uint8_t)job->flip, add = (uint8_t)job->add[f];
        int32_t sum = 0;
        for (int64_t k = 0; k < area; k++) {
            const uint8_t *from = job->weight + f * job->depth * area + k;
            const int64_t run = joined ? k / job->kernel_width : k;
            int64_t byte = joined ? k % job->kernel_width * job->depth : 0, i = 0;
            int8_t *to = blocks + (run * shape.quads + byte / 4) * vectors * 64;
            for (; byte % 4 == 0 && i + 4 <= job->depth; i += 4, from += 4 * area) {
                int8_t four[4]; /* written at once: each lies on another line of the cache */
                for (int j = 0; j < 4; j++) {
                    four[j] = (int8_t)((from[j * area] ^ flip) + add);
                    sum += four[j];
                }
                memcpy(to, four, 4);
                to += vectors * 64;
            }
            for (; i < job->depth; i++, from += area) {
                const int64_t place = byte + i;
                const int8_t value = (int8_t)((*from ^ flip) + add);
                blocks[(run * shape.quads + place / 4) * vectors * 64 + place % 4] = value;
                sum += value;
            }
        }
        job->sums[f] = sum;
    }
    return 0;
}
