// A checkpoint as Hugging Face's save_pretrained writes it: config.json and safetensors or .bin files, sharded or not.
// Deliberately not: finding the files (CheckpointLocator), ONNX.
using System.Text.RegularExpressions;
using IptNative.Kernels;
using IptNative.Model.Config;

namespace IptNative.Model.Checkpoints;

/// <summary>Tensors of one or more files under their canonical names, checked against the configuration.</summary>
internal sealed partial class HfCheckpoint : Checkpoint
{
    private readonly List<TensorFile> _files = [];
    private readonly Dictionary<string, Source> _sources = new(StringComparer.Ordinal);
    private readonly List<string> _ignored = [];

    private HfCheckpoint(string location, T5Config config) => (Location, Config) = (location, config);

    /// <inheritdoc/>
    public override string Location { get; }

    /// <inheritdoc/>
    public override IReadOnlyList<string> Files => [.. _files.Select(f => Path.GetFullPath(f.Path))];

    /// <inheritdoc/>
    public override T5Config Config { get; }

    /// <inheritdoc/>
    public override IReadOnlyList<string> Ignored => _ignored;

    /// <inheritdoc/>
    public override Weight this[string name] => _sources.TryGetValue(name, out Source source)
        ? source.File[source.Name] with { Name = name }
        : throw new InvalidDataException($"{Location}: '{name}' is no parameter of this model; {NearestName.Among(_sources.Keys, name)}.");

    /// <summary>Opens a single file or all shards of an index.</summary>
    /// <param name="location">What the user named, for messages.</param>
    /// <param name="file">A weight file, or a <c>.index.json</c>.</param>
    /// <param name="config">The configuration.</param>
    /// <param name="configPath">Named in messages.</param>
    /// <exception cref="InvalidDataException">A file is damaged, or its tensors are not those of the configuration.</exception>
    public static HfCheckpoint Open(string location, string file, T5Config config, string configPath)
    {
        var checkpoint = new HfCheckpoint(location, config);
        try
        {
            checkpoint.Read(file, configPath);
            return checkpoint;
        }
        catch
        {
            checkpoint.Dispose();
            throw;
        }
    }

    /// <inheritdoc/>
    public override void Release(string name)
    {
        if (_sources.TryGetValue(name, out Source source))
            source.File.Release(source.Name);
    }

    /// <inheritdoc/>
    public override void RequireUnchanged()
    {
        foreach (TensorFile file in _files)
            file.RequireUnchanged();
    }

    /// <inheritdoc/>
    internal override bool IsMapped(in Weight weight)
    {
        foreach (TensorFile file in _files)
        {
            if (file.IsMapped(weight))
                return true;
        }
        return false;
    }

    /// <inheritdoc/>
    public override void VerifyChecksums()
    {
        foreach (TensorFile file in _files)
            file.VerifyChecksums();
    }

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        foreach (TensorFile file in _files)
            file.Dispose();
    }

    private void Read(string file, string configPath)
    {
        Dictionary<string, TensorShape> expected = T5Parameters.Of(Config).ToDictionary(p => p.Name, p => p.Shape, StringComparer.Ordinal);
        List<Source> all = Collect(file);

        // The parameter under its own name comes first, whatever the order in the file; aliases are then compared with it.
        foreach (Source s in all.Where(s => expected.ContainsKey(s.Name)))
        {
            RequireShape(s, s.Name, expected[s.Name]);
            _sources.Add(s.Name, s);
        }
        foreach (Source s in all.Where(s => !expected.ContainsKey(s.Name)))
        {
            string canonical = T5Parameters.Canonical(Config, s.Name);
            if (canonical != s.Name)
                AddAlias(s, canonical, expected[canonical], configPath);
            else if (IsBeyond(s.Name) is { } layers)
                throw new InvalidDataException($"{s.File.Path}: tensor '{s.Name}' lies beyond {configPath}'s {layers}. The two are of different models: take both from one checkpoint.");
            else if (!KnownLeftover().IsMatch(s.Name))
                _ignored.Add(s.Name);
        }
        if (Config.LmHeadMayBeShared && !_sources.ContainsKey(T5Parameters.LmHead) && _sources.TryGetValue(T5Parameters.Shared, out Source shared))
            _sources.Add(T5Parameters.LmHead, shared);

        string[] missing = [.. expected.Keys.Where(n => !_sources.ContainsKey(n))];
        if (missing.Length > 0)
        {
            string more = missing.Length == 1 ? "" : $" and {missing.Length - 1} more";
            string hint = missing[0] == T5Parameters.LmHead ? $" {configPath} says tie_word_embeddings: false; is it of another checkpoint?" : "";
            throw new InvalidDataException($"{file}: tensor '{missing[0]}'{more} is missing; {NearestName.Among([.. all.Select(s => s.Name)], missing[0])}.{hint} Use weights that belong to {configPath}.");
        }
    }

    // Every tensor of every file; for a sharded one only what the index assigns to a shard.
    private List<Source> Collect(string file)
    {
        if (!file.EndsWith(".index.json", StringComparison.OrdinalIgnoreCase))
            return [.. Add(file).Names.Select(n => new Source(_files[0], n))];

        ShardIndex index = ShardIndex.Load(file);
        var shards = new Dictionary<string, TensorFile>(StringComparer.Ordinal);
        var all = new List<Source>();
        foreach (string shard in index.Shards)
        {
            TensorFile opened = shards[shard] = Add(index.Resolve(shard));
            foreach (string name in opened.Names)
            {
                if (index.ShardOf.TryGetValue(name, out string? owner) && owner == shard)
                    all.Add(new Source(opened, name));
                else
                    _ignored.Add($"{name} ({shard}, not assigned to it by the index)");
            }
        }
        foreach ((string name, string shard) in index.ShardOf)
        {
            if (!shards[shard].Contains(name))
                throw new InvalidDataException($"{shards[shard].Path}: tensor '{name}' is missing, {Path.GetFileName(file)} says that it is there. The shards are of different downloads: copy or download them all again.");
        }
        return all;
    }

    private TensorFile Add(string path)
    {
        TensorFile file = TensorFile.Open(path);
        _files.Add(file);
        return file;
    }

    private void AddAlias(Source alias, string canonical, TensorShape shape, string configPath)
    {
        RequireShape(alias, canonical, shape);
        if (_sources.TryAdd(canonical, alias))
            return;
        Source original = _sources[canonical];
        if (SameBytes(original.File[original.Name], alias.File[alias.Name]))
        {
            alias.File.Release(alias.Name);
            return;
        }
        throw new InvalidDataException(alias.Name == T5Parameters.LmHead
            ? $"{alias.File.Path}: tensor '{alias.Name}' differs from '{original.Name}', {configPath} says tie_word_embeddings: true, which makes them one. Set tie_word_embeddings to false if the head was trained on its own, or take the configuration that belongs to these weights."
            : $"{alias.File.Path}: tensor '{alias.Name}' differs from '{original.Name}', a T5 has one embedding under both names. The file is of another architecture or damaged.");
    }

    private void RequireShape(Source s, string canonical, TensorShape expected)
    {
        TensorInfo info = s.File.Describe(s.Name);
        if (info.Shape != expected)
        {
            throw new InvalidDataException($"{s.File.Path}: tensor '{s.Name}' has shape {info.Shape}, config.json implies {T5Parameters.ShapeInWords(Config, canonical)}. "
                + "The two are of different models: take both from one checkpoint.");
        }
        if (info.DType is not (DType.F32 or DType.F16 or DType.BF16))
            throw new InvalidDataException($"{s.File.Path}: tensor '{s.Name}' is {info.TypeName}, expected F32, F16 or BF16. Convert the checkpoint to one of them.");
    }

    private static unsafe bool SameBytes(Weight a, Weight b)
    {
        if (a.DType != b.DType || a.ByteLength != b.ByteLength)
            return false;
        const int Chunk = 1 << 24;
        for (long at = 0; a.Address != b.Address && at < a.ByteLength; at += Chunk)
        {
            int n = (int)Math.Min(Chunk, a.ByteLength - at);
            if (!new ReadOnlySpan<byte>((byte*)a.Address + at, n).SequenceEqual(new ReadOnlySpan<byte>((byte*)b.Address + at, n)))
                return false;
        }
        return true;
    }

    // A file with more blocks than the configuration runs, but as another model than the one it holds.
    private string? IsBeyond(string name)
    {
        Match m = Block().Match(name);
        if (!m.Success || !int.TryParse(m.Groups["index"].Value, out int block))
            return null;
        (string field, int layers) = m.Groups["stack"].Value == "encoder" ? ("num_layers", Config.NumLayers) : ("num_decoder_layers", Config.NumDecoderLayers);
        return block >= layers ? $"{field}={layers}" : null;
    }

    // T5 v1.0 files carry a bias in the first cross-attention that no version of the model reads.
    [GeneratedRegex(@"^decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias\.weight$", RegexOptions.CultureInvariant)]
    private static partial Regex KnownLeftover();

    [GeneratedRegex(@"^(?<stack>encoder|decoder)\.block\.(?<index>\d{1,9})\.", RegexOptions.CultureInvariant | RegexOptions.ExplicitCapture)]
    private static partial Regex Block();

    private readonly record struct Source(TensorFile File, string Name);
}
