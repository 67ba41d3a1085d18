// Finds and reads the parity fixtures (tests/Goldens). Little-endian .npy of version 1 only: the fixtures are ours.
using System.Runtime.InteropServices;
using System.Text;
using System.Text.Json.Nodes;

namespace IptNative.Kernels.Tests;

internal static class Goldens
{
    public static T[] Read<T>(string name)
        where T : unmanaged
    {
        byte[] bytes = File.ReadAllBytes(PathOf(name + ".npy"));
        int header = bytes[8] | bytes[9] << 8;
        string text = Encoding.ASCII.GetString(bytes, 10, header);
        string type = typeof(T) == typeof(float) ? "<f4" : typeof(T) == typeof(double) ? "<f8" : "<i8";
        return text.Contains(type, StringComparison.Ordinal)
            ? MemoryMarshal.Cast<byte, T>(bytes.AsSpan(10 + header)).ToArray()
            : throw new InvalidDataException($"{name}.npy: found {text}, expected {type}.");
    }

    public static double Expected(string name) => (double)JsonNode.Parse(File.ReadAllText(PathOf("expected.json")))![name]!; // present: the fixture is in the repository

    public static string PathOf(string file) => Path.Combine(Root, "tests", "Goldens", "t5v11", file);

    /// <summary>The repository's folder.</summary>
    public static string Root { get; } = FindRoot();

    private static string FindRoot()
    {
        DirectoryInfo? at = new(AppContext.BaseDirectory);
        while (at is not null && !File.Exists(Path.Combine(at.FullName, "IptNative.sln")))
            at = at.Parent;
        return at?.FullName ?? throw new InvalidDataException("IptNative.sln: not found above the test's folder.");
    }
}
