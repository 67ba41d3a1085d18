// A file with given text that goes away with the test.
using System.Text;

namespace IptNative.Tasks.Tests;

internal sealed class TemporaryFile : IDisposable
{
    private readonly DirectoryInfo _folder = Directory.CreateTempSubdirectory("iptnative-tasks-");

    public TemporaryFile(string text, string name = "data.tsv")
        : this(Encoding.UTF8.GetBytes(text), name)
    {
    }

    public TemporaryFile(byte[] bytes, string name = "data.tsv")
    {
        Path = System.IO.Path.Combine(_folder.FullName, name);
        File.WriteAllBytes(Path, bytes);
    }

    public string Path { get; }

    public string Folder => _folder.FullName;

    public void Dispose() => _folder.Delete(recursive: true);
}
