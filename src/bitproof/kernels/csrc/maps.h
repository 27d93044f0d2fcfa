/* Inputs that become words, windows and averages of words, copies; a part of level.h. */

enum { MAP_PIECE = 256 };

static inline void write_word(void *out, int64_t kind, int64_t at, int32_t word) {
    if (kind == SIGNED_16)
        ((int16_t *)out)[at] = (int16_t)word;
    else
        ((uint8_t *)out)[at] = (uint8_t)word;
}

/* Images [first, last). */
static int quantize_values(const void *data, int64_t first, int64_t last) {
    const QuantizeValues *job = data;
    const Requantization how = job->how;
    int32_t words[MAP_PIECE];
    for (int64_t row = first * job->channels; row < last * job->channels; row++) {
        const int64_t image = row / job->channels, channel = row % job->channels;
        const float mean = job->mean == NULL ? 0.0f : job->mean[channel];
        const float std = job->mean == NULL ? 1.0f : job->std[channel];
        for (int64_t start = 0; start < job->inner; start += MAP_PIECE) {
            const float *values = job->values + row * job->inner + start;
            const int64_t left = job->inner - start, count = left < MAP_PIECE ? left : MAP_PIECE;
            const int64_t at = (image * job->inner + start) * job->channels + channel;
            /* Less 0 and divided by 1, a value is the same. */
            for (int64_t i = 0; i < count; i++)
                words[i] = to_word((values[i] - mean) / std * job->multiplier, &how);
            for (int64_t i = 0; i < count; i++)
                write_word(job->out, job->out_kind, at + i * job->channels, words[i]);
        }
    }
    return 0;
}

/* The part of a window along one axis that lies on the map: taps [*from, *to). */
static inline int64_t clip_window(int64_t place, int64_t kernel, int64_t stride, int64_t pad,
                                  int64_t size, int64_t *from) {
    const int64_t low = place * stride - pad;
    *from = low < 0 ? 0 : low;
    return low + kernel < size ? low + kernel : size;
}

#define LARGEST(type)                                                                      \
    {                                                                                      \
        const type *words = job->words;                                                    \
        type *out = (type *)job->out + pixel * c;                                          \
        for (int64_t y = y0; y < y1; y++)                                                  \
            for (int64_t x = x0; x < x1; x++) {                                            \
                const type *from = words + ((image * job->height + y) * job->width + x) * c; \
                if (y == y0 && x == x0)                                                    \
                    memcpy(out, from, (size_t)c * sizeof(type));                           \
                else                                                                       \
                    for (int64_t i = 0; i < c; i++) out[i] = out[i] > from[i] ? out[i] : from[i]; \
            }                                                                              \
    }

static inline void add_to_sums(const void *words, int64_t kind, int64_t at, int64_t count,
                               int64_t *sums) {
    const uint8_t *bytes = (const uint8_t *)words + at;
    const int8_t *numbers = (const int8_t *)words + at;
    const int16_t *longer = (const int16_t *)words + at;
    if (kind == UNSIGNED_8)
        for (int64_t i = 0; i < count; i++) sums[i] += bytes[i];
    else if (kind == SIGNED_8)
        for (int64_t i = 0; i < count; i++) sums[i] += numbers[i];
    else
        for (int64_t i = 0; i < count; i++) sums[i] += longer[i];
}

/* Rows [first, last) of the output, over all images. */
static int pool_words(const void *data, int64_t first, int64_t last) {
    const PoolWords *job = data;
    const Requantization how = job->how;
    const int64_t c = job->channels, point = (int64_t)job->point;
    int64_t sums[MAP_PIECE];
    for (int64_t row = first; row < last; row++) {
        const int64_t image = row / job->out_height;
        int64_t y0, x0;
        const int64_t y1 = clip_window(row % job->out_height, job->kernel_height, job->stride_y,
                                       job->pad_y, job->height, &y0);
        for (int64_t place = 0; place < job->out_width; place++) {
            const int64_t x1 = clip_window(place, job->kernel_width, job->stride_x, job->pad_x,
                                           job->width, &x0);
            const int64_t pixel = row * job->out_width + place;
            if (job->largest && job->kind == UNSIGNED_8) {
                LARGEST(uint8_t)
                continue;
            } else if (job->largest && job->kind == SIGNED_8) {
                LARGEST(int8_t)
                continue;
            } else if (job->largest) {
                LARGEST(int16_t)
                continue;
            }
            for (int64_t start = 0; start < c; start += MAP_PIECE) {
                const int64_t count = c - start < MAP_PIECE ? c - start : (int64_t)MAP_PIECE;
                const int64_t under = (y1 - y0) * (x1 - x0);
                for (int64_t i = 0; i < count; i++) sums[i] = -under * point;
                for (int64_t y = y0; y < y1; y++)
                    for (int64_t x = x0; x < x1; x++)
                        add_to_sums(job->words, job->kind,
                                    ((image * job->height + y) * job->width + x) * c + start, count,
                                    sums);
                for (int64_t i = 0; i < count; i++)
                    write_word(job->out, job->out_kind, pixel * c + start + i,
                               to_word((float)sums[i] * job->multiplier, &how));
            }
        }
    }
    return 0;
}

/* Rows [first, last). */
static int average_words(const void *data, int64_t first, int64_t last) {
    const AverageWords *job = data;
    const Requantization how = job->how;
    const int64_t point = (int64_t)job->point, inner = job->inner;
    int64_t sums[MAP_PIECE];
    for (int64_t row = first; row < last; row++)
        for (int64_t start = 0; start < inner; start += MAP_PIECE) {
            const int64_t count = inner - start < MAP_PIECE ? inner - start : (int64_t)MAP_PIECE;
            for (int64_t i = 0; i < count; i++) sums[i] = -job->count * point;
            for (int64_t k = 0; k < job->count; k++)
                add_to_sums(job->words, job->kind, (row * job->count + k) * inner + start, count,
                            sums);
            for (int64_t i = 0; i < count; i++)
                write_word(job->out, job->out_kind, row * inner + start + i,
                           to_word((float)sums[i] * job->multiplier, &how));
        }
    return 0;
}

static inline void copy_row(const CopyElements *job, const uint8_t *from, uint8_t *to) {
    const int64_t count = job->sizes[AXES - 1], bytes = job->bytes;
    const int64_t step = job->from_steps[AXES - 1], apart = job->to_steps[AXES - 1];
    if (step == bytes && apart == bytes)
        memcpy(to, from, (size_t)(count * bytes));
    else if (bytes == 1)
        for (int64_t i = 0; i < count; i++) to[i * apart] = from[i * step];
    else
        for (int64_t i = 0; i < count; i++)
            memcpy(to + i * apart, from + i * step, (size_t)bytes);
}

/* Places [first, last) of the outermost axis. */
static int copy_elements(const void *data, int64_t first, int64_t last) {
    const CopyElements *job = data;
    const int64_t *sizes = job->sizes, *from = job->from_steps, *to = job->to_steps;
    for (int64_t a = first; a < last; a++)
        for (int64_t b = 0; b < sizes[1]; b++)
            for (int64_t c = 0; c < sizes[2]; c++)
                for (int64_t d = 0; d < sizes[3]; d++)
                    for (int64_t e = 0; e < sizes[4]; e++)
                        copy_row(job,
                                 job->from + a * from[0] + b * from[1] + c * from[2] + d * from[3] +
                                     e * from[4],
                                 job->to + a * to[0] + b * to[1] + c * to[2] + d * to[3] + e * to[4]);
    return 0;
}

/* Rows [first, last). */
static int start_sums(const void *data, int64_t first, int64_t last) {
    const StartSums *job = data;
    for (int64_t row = first; row < last; row++)
        for (int64_t i = 0; i < job->padded; i++) {
            const uint32_t sum =
                i < job->filters ? (uint32_t)job->sums[row * job->filters + i] + (uint32_t)job->rest : 0;
            job->start[row * job->padded + i] = (int32_t)(-(uint32_t)job->point * sum);
        }
    return 0;
}
