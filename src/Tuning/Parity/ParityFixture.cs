// The arrays of a parity fixture by name, as tests/Goldens/README.md lays them out. Not: what is compared with them.
using System.Text.Json;
using IptNative.Kernels;
using IptNative.Model.Checkpoints;

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
            throw new InvalidDataException($"{folder}: opening a parity fixture; found no expected.json. Make one with tools/export_onnx/make_fixture.py, or name a folder such as tests/Goldens/t5v11.");
        try
        {
            using var json = JsonDocument.Parse(File.ReadAllBytes(path));
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

    private NumpyFile Read(string name) => NumpyFile.Read(PathOf(name));

    private string PathOf(string name) => Path.Combine(Folder, name + ".npy");
}
