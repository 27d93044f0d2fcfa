/* Convolutions of images that differ from known ones in a few words; a part of level.h. */

/* Add what one changed word makes of the sums of an image. */
static void add_change(const ChangedConvolution *job, int64_t y, int64_t x, int64_t channel,
                       int32_t change, int32_t *sums) {
    const int64_t filters = job->filters;
    for (int64_t i = 0; i < job->kernel_height; i++) {
        const int64_t down = y + job->pad_y - i * job->dilation_y;
        if (down < 0 || down % job->stride_y || down / job->stride_y >= job->out_height) continue;
        for (int64_t j = 0; j < job->kernel_width; j++) {
            const int64_t across = x + job->pad_x - j * job->dilation_x;
            if (across < 0 || across % job->stride_x || across / job->stride_x >= job->out_width)
                continue;
            const int16_t *restrict weight =
                job->weight + ((i * job->kernel_width + j) * job->channels + channel) * filters;
            int32_t *restrict to =
                sums + (down / job->stride_y * job->out_width + across / job->stride_x) * filters;
            for (int64_t f = 0; f < filters; f++)
                to[f] = (int32_t)((uint32_t)to[f] + (uint32_t)(change * weight[f]));
        }
    }
}

static void write_changed(const ChangedConvolution *job, int64_t at, const int32_t *restrict sums) {
    const Requantization how = job->how;
    const float *restrict multiplier = job->how.multiplier;
    uint8_t *restrict bytes = (uint8_t *)job->out + at;
    int16_t *restrict longer = (int16_t *)job->out + at;
    if (job->out_kind == SIGNED_16)
        for (int64_t f = 0; f < job->filters; f++)
            longer[f] = (int16_t)to_word((float)sums[f] * multiplier[f], &how);
    else
        for (int64_t f = 0; f < job->filters; f++)
            bytes[f] = (uint8_t)to_word((float)sums[f] * multiplier[f], &how);
}

/* Put changed words channel by channel, so that weights are read once for all pixels. */
static void sort_by_channel(const int64_t *places, int64_t count, int64_t channels, int64_t *starts,
                            int64_t *sorted) {
    memset(starts, 0, (size_t)(channels + 1) * sizeof *starts);
    for (int64_t n = 0; n < count; n++) starts[places[n] % channels + 1]++;
    for (int64_t c = 0; c < channels; c++) starts[c + 1] += starts[c];
    for (int64_t n = 0; n < count; n++) sorted[starts[places[n] % channels]++] = places[n];
}

/* Images [first, last); 0, or -1 if there is no memory. */
static int changed_convolution(const void *data, int64_t first, int64_t last) {
    const ChangedConvolution *job = data;
    const int64_t area = job->height * job->width, size = area * job->channels;
    const int64_t pixels = job->out_height * job->out_width, outputs = pixels * job->filters;
    int32_t *sums = malloc((size_t)outputs * sizeof *sums);
    const int64_t room = 2 * (job->most + 1) + job->channels + 1;
    int64_t *places = malloc((size_t)room * sizeof *places);
    int64_t *sorted = places + job->most + 1, *starts = sorted + job->most + 1;
    for (; sums != NULL && places != NULL && first < last; first++) {
        const uint8_t *words = job->words + first * size;
        const uint8_t *known = job->known + job->which[first] * size;
        int64_t found = 0;
        for (int64_t start = 0; start < size && found <= job->most; start += 64) {
            const int64_t end = start + 64 < size ? start + 64 : size;
            if (memcmp(words + start, known + start, (size_t)(end - start)) == 0) continue;
            for (int64_t i = start; i < end && found <= job->most; i++)
                if (words[i] != known[i]) places[found++] = i;
        }
        job->left[first] = found > job->most;
        if (found > job->most) continue;
        memcpy(sums, job->sums + job->which[first] * outputs, (size_t)outputs * sizeof *sums);
        sort_by_channel(places, found, job->channels, starts, sorted);
        for (int64_t n = 0; n < found; n++) {
            const int64_t i = sorted[n], pixel = i / job->channels;
            const int32_t change = job->signed_words ? (int8_t)words[i] - (int8_t)known[i]
                                                     : words[i] - known[i];
            add_change(job, pixel / job->width, pixel % job->width, i % job->channels, change, sums);
        }
        for (int64_t p = 0; p < pixels; p++)
            write_changed(job, (first * pixels + p) * job->filters, sums + p * job->filters);
    }
    free(sums);
    free(places);
    return first < last ? -1 : 0;
}
