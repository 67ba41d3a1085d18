// The arrays of a parity fixture by name, as tests/Goldens/README.md lays them out. Not: what is compared with them.
using System.Text.Json;
using IptNative.Kernels;
using IptNative.Model.Checkpoints;
using IptNative.Model.Config;
using IptNative.Model.Forward;

namespace IptNative.Tuning.Parity;

/// <summary>A folder of .npy arrays with expected.json and config.json.</summary>
internal sealed class ParityFixture
{
    private readonly JsonElement _expected;

    public ParityFixture(string folder)
    {
        Folder = folder;
        string path = Path.Combine(folder, "expected.json");
        if (!File.Exists(path))
            throw new InvalidDataException($"{folder}: opening a parity fixture; {(Directory.Exists(folder) ? "found no expected.json" : "there is no such folder")}. Make one with tools/export_onnx/make_fixture.py, or name a folder such as tests/Goldens/t5v11.");
        try
        {
            using var json = JsonDocument.Parse(JsonText.ReadFile(path));
            _expected = json.RootElement.Clone();
        }
        catch (JsonException e)
        {
            throw new InvalidDataException($"{path}: reading the fixture's scalars; found broken JSON ({e.Message}). Make the fixture again.", e);
        }
    }

    /// <summary>The fixture's folder.</summary>
    public string Folder { get; }

    /// <summary>True where the array's file is there.</summary>
    public bool Has(string name) => File.Exists(PathOf(name));

    /// <summary>True where expected.json has the scalar.</summary>
    public bool HasScalar(string name) => _expected.TryGetProperty(name, out JsonElement value) && value.ValueKind == JsonValueKind.Number;

    /// <summary>A number of expected.json.</summary>
    public double Scalar(string name) => HasScalar(name) ? _expected.GetProperty(name).GetDouble()
        : throw new InvalidDataException($"{Folder}/expected.json: found no number '{name}'. Make the fixture again.");

    /// <summary>An array as doubles, row-major.</summary>
    public double[] Values(string name) => Read(name).ToDoubles();

    /// <summary>An array as floats, row-major.</summary>
    public float[] Floats(string name) => Read(name).ToFloats();

    /// <summary>An array of ids.</summary>
    public int[] Ids(string name) => Array.ConvertAll(Read(name).ToInt64(), id => checked((int)id));

    /// <summary>An array's dimension.</summary>
    public int Dim(string name, int axis)
    {
        TensorShape shape = Read(name).Shape;
        return axis < shape.Rank ? checked((int)shape[axis])
            : throw new InvalidDataException($"{PathOf(name)}: found shape {shape}, expected at least {axis + 1} dimensions. Make the fixture again.");
    }

    /// <summary>Tokens of each example of the fixture's batch.</summary>
    public int[] Lengths()
    {
        int[] mask = Ids("attention_mask");
        int width = Dim("attention_mask", 1);
        int[] lengths = new int[mask.Length / width];
        for (int b = 0; b < lengths.Length; b++)
            lengths[b] = mask.AsSpan(b * width, width).Count(1);
        return lengths;
    }

    /// <summary>Examples from an array of ids and one of labels, all with the same prompt number.</summary>
    public T5Batch Batch(string inputs, string? labels, int[] lengths, int prompt)
    {
        int[] ids = Ids(inputs);
        int[] targets = labels is null ? [] : Ids(labels);
        int width = ids.Length / lengths.Length, targetWidth = targets.Length / lengths.Length;
        var batch = new T5Batch();
        for (int b = 0; b < lengths.Length; b++)
            batch.Add(ids.AsSpan(b * width, lengths[b]), targets.AsSpan(b * targetWidth, targetWidth), prompt);
        return batch;
    }

    /// <summary>A nested number of expected.json, such as the learning rate of a trace.</summary>
    public double Scalar(string section, string name) =>
        _expected.TryGetProperty(section, out JsonElement group) && group.ValueKind == JsonValueKind.Object && group.TryGetProperty(name, out JsonElement value) && value.ValueKind == JsonValueKind.Number
            ? value.GetDouble()
            : throw new InvalidDataException($"{Folder}/expected.json: found no number '{section}.{name}'. Make the fixture again.");

    /// <summary>The largest of a nested list of expected.json, such as the distances of a trace; null where it is not there.</summary>
    public double? Largest(string section, string name) =>
        _expected.TryGetProperty(section, out JsonElement group) && group.ValueKind == JsonValueKind.Object && group.TryGetProperty(name, out JsonElement list)
            && list.ValueKind == JsonValueKind.Array && list.GetArrayLength() > 0 && list.EnumerateArray().All(v => v.ValueKind == JsonValueKind.Number)
            ? list.EnumerateArray().Max(v => v.GetDouble())
            : null;

    private NumpyFile Read(string name) => Has(name) ? NumpyFile.Read(PathOf(name))
        : throw new InvalidDataException($"{Folder}: replaying a parity fixture; found no {name}.npy, expected one. Copy the fixture again, or make it again with tools/export_onnx/make_fixture.py.");

    private string PathOf(string name) => Path.Combine(Folder, name + ".npy");
}
