// A mapped .onnx file and the external data beside it: who owns the mappings, and how a location in a file becomes an address.
// Deliberately not: the graph (OnnxModel).
using IptNative.Model.Checkpoints;
using IptNative.Model.Protobuf;

namespace IptNative.Model.Onnx.Wire;

/// <summary>The mapped files of one ONNX model. Disposing unmaps them all.</summary>
internal sealed class OnnxFile : IDisposable
{
    private readonly Dictionary<string, MappedFile> _external = new(StringComparer.Ordinal);
    private readonly MappedFile _model;

    /// <summary>Maps a model.</summary>
    /// <param name="path">The .onnx file.</param>
    /// <exception cref="IOException">It cannot be read.</exception>
    public OnnxFile(string path)
    {
        Path = path;
        _model = new MappedFile(path);
    }

    /// <summary>The .onnx file.</summary>
    public string Path { get; }

    /// <summary>The model file and every external data file that a tensor has named.</summary>
    public IEnumerable<string> Files => [Path, .. _external.Keys.Select(Resolve)];

    /// <summary>Refuses to go on with external data that was truncated or rewritten since it was mapped; the model file itself has been read.</summary>
    /// <exception cref="IOException">It was.</exception>
    public void RequireUnchanged()
    {
        foreach (MappedFile file in _external.Values)
            file.RequireUnchanged();
    }

    /// <summary>The whole model file.</summary>
    public ProtoSlice Whole => new(_model.Address(0, _model.Length, "the model"), _model.Length);

    /// <summary>A reader of a message in the model file.</summary>
    /// <param name="message">The message.</param>
    /// <returns>The reader at its first field.</returns>
    public ProtoReader Reader(ProtoSlice message) => new(message, Path, Whole.Address, "ONNX model");

    /// <summary>A StringStringEntryProto.</summary>
    /// <param name="message">The message.</param>
    /// <returns>Key and value.</returns>
    public (string Key, string Value) Entry(ProtoSlice message)
    {
        (string key, string value) = ("", "");
        ProtoReader reader = Reader(message);
        while (reader.Next(out int field, out _))
        {
            if (field == 1)
                key = reader.Text();
            else if (field == 2)
                value = reader.Text();
            else
                reader.Skip();
        }
        return (key, value);
    }

    /// <summary>The bytes of a tensor that lies in another file of the same folder.</summary>
    /// <param name="tensor">Its name, for messages.</param>
    /// <param name="entries">location, offset, length: as text, as ONNX has them.</param>
    /// <param name="byteLength">What its dimensions imply.</param>
    /// <returns>The bytes, mapped.</returns>
    /// <exception cref="InvalidDataException">The location leads out of the folder, or the range out of the file.</exception>
    public ProtoSlice External(string tensor, Dictionary<string, string> entries, long byteLength)
    {
        string location = entries.GetValueOrDefault("location", "");
        // Backslashes and drive letters are refused everywhere: what is harmless here would not be on Windows.
        if (location.Length == 0 || System.IO.Path.IsPathRooted(location) || location.IndexOfAny(['\\', ':', '\0']) >= 0 || location.Split('/').Contains(".."))
            throw new InvalidDataException($"{Path}: tensor '{tensor}' has its data in '{location}', expected a file in the model's own folder. The file is not to be trusted; export it again.");
        long offset = Number("offset", 0);
        long length = Number("length", byteLength);

        if (!_external.TryGetValue(location, out MappedFile? file))
        {
            string path = Resolve(location);
            if (!File.Exists(path))
                throw new InvalidDataException($"{Path}: tensor '{tensor}' has its data in {location}, which is not in the folder. Copy the external data beside the model.");
            _external.Add(location, file = new MappedFile(path));
        }
        if (length != byteLength)
            throw new InvalidDataException($"{Path}: tensor '{tensor}' has {length} bytes in {location}, its shape implies {byteLength}. Export the model again.");
        return new(file.Address(offset, length, $"tensor '{tensor}'"), length);

        long Number(string key, long missing) => !entries.TryGetValue(key, out string? text) ? missing
            : long.TryParse(text, System.Globalization.NumberStyles.None, null, out long n) ? n
            : throw new InvalidDataException($"{Path}: tensor '{tensor}' has the external data {key} '{text}', expected a whole number of bytes. Export the model again.");
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _model.Dispose();
        foreach (MappedFile file in _external.Values)
            file.Dispose();
        _external.Clear();
    }

    private string Resolve(string location) => System.IO.Path.Combine(System.IO.Path.GetDirectoryName(System.IO.Path.GetFullPath(Path))!, location);
}
