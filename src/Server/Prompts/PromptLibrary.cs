// The prompts of a folder, kept up with what is in it. Deliberately not: the table that a batch reads (Scheduler), HTTP.
using System.Collections.Frozen;
using IptNative.Model.Config;
using IptNative.Tuning.Prompts;

namespace IptNative.Server.Prompts;

/// <summary>Why a change of the library was refused.</summary>
internal enum PromptRefusal
{
    Name,
    Duplicate,
    Content,
    Unknown,
    Foreign,
}

/// <summary>The library would not be changed.</summary>
internal sealed class PromptRefusedException(PromptRefusal why, string message) : Exception(message)
{
    public PromptRefusal Why => why;
}

/// <summary>Named prompts. Readers see a whole state at any time; a change replaces it.</summary>
/// <remarks>See <see cref="PromptFolder"/> for what counts as one.</remarks>
internal sealed class PromptLibrary
{
    private readonly record struct Stamp(string Path, DateTime Written, long Bytes);

    private readonly string? _folder;
    private readonly T5Config _config;
    private readonly int _mostRows;
    private readonly ServedPrompt _bare;
    private readonly Action<string> _log;
    private readonly Lock _changes = new();
    private readonly Dictionary<string, Stamp> _stamps = new(StringComparer.Ordinal);
    private readonly HashSet<string> _complaints = new(StringComparer.Ordinal);
    private FrozenDictionary<string, ServedPrompt> _prompts;

    /// <summary>Reads the folder; every entry has to be in order.</summary>
    /// <param name="folder">Where the prompts are; null for none.</param>
    /// <param name="bareName">What the model without a prompt is called.</param>
    /// <param name="config">The model.</param>
    /// <param name="mostRows">Longest prompt. Attention takes the square of it, and all other texts wait meanwhile.</param>
    /// <param name="log">Told of entries in disorder.</param>
    /// <exception cref="InvalidDataException">An entry is no prompt of this model, or two have one name.</exception>
    /// <exception cref="IOException">The folder or an entry cannot be read.</exception>
    public PromptLibrary(string? folder, string bareName, T5Config config, int mostRows, Action<string> log)
    {
        (_folder, _config, _mostRows, _log) = (folder, config, mostRows, log);
        _bare = new ServedPrompt(bareName, "", null, DateTimeOffset.UnixEpoch);
        _prompts = new Dictionary<string, ServedPrompt> { [bareName] = _bare }.ToFrozenDictionary(StringComparer.Ordinal);
        if (folder is not null && !Directory.Exists(folder))
            throw new DirectoryNotFoundException($"{folder}: reading prompts; there is no such folder. Make it, or name the folder that holds the prompts.");
        Scan(e => throw e);
    }

    /// <summary>The prompts now, the bare model first, then by name.</summary>
    public IEnumerable<ServedPrompt> All => _prompts.Values.OrderBy(p => p.Prompt is not null).ThenBy(p => p.Name, StringComparer.Ordinal);

    public int Count => _prompts.Count;

    public ServedPrompt? Find(string name) => _prompts.GetValueOrDefault(name);

    /// <summary>Takes in what was added to the folder or changed, and out what is gone. An entry in disorder is told of once and leaves the others alone.</summary>
    public void Rescan() => Scan(e =>
    {
        if (_complaints.Add(e.Message))
            _log(e.Message);
    });

    /// <summary>Adds a prompt from its bytes.</summary>
    /// <param name="name">Its name.</param>
    /// <param name="content">A .npy or .safetensors file.</param>
    /// <returns>The prompt.</returns>
    /// <exception cref="PromptRefusedException">The name is taken or impossible, or the bytes are no prompt of this model.</exception>
    public ServedPrompt Add(string name, byte[] content)
    {
        string folder = _folder ?? throw new PromptRefusedException(PromptRefusal.Unknown, "This server has no folder of prompts. Start it with --prompts DIR.");
        if (!ServedPrompt.IsName(name))
            throw new PromptRefusedException(PromptRefusal.Name, $"Adding a prompt: '{Shown(name)}' is no name, expected {ServedPrompt.NameRule}.");
        lock (_changes)
        {
            string extension = content.AsSpan().StartsWith((ReadOnlySpan<byte>)[0x93, (byte)'N', (byte)'U', (byte)'M', (byte)'P', (byte)'Y']) ? ".npy" : ".safetensors";
            string path = Path.Combine(folder, name + extension);
            if (_prompts.ContainsKey(name) || Entries().Any(e => e.Name == name))
                throw new PromptRefusedException(PromptRefusal.Duplicate, $"Adding a prompt: there is one named '{name}' already. Take another name, or delete that one first.");
            // Read where the folder's scan does not look, then moved: nobody ever sees half a prompt.
            string temporary = Path.Combine(folder, $".{name}.{Guid.NewGuid():N}{extension}");
            try
            {
                File.WriteAllBytes(temporary, content);
                Prompt prompt = PromptFile.Read(temporary);
                RequireUsable(prompt, name);
                File.Move(temporary, path);
                var added = new ServedPrompt(name, path, prompt, Written(path));
                _stamps[name] = StampOf(path);
                Replace(_prompts.Values.Append(added));
                return added;
            }
            catch (InvalidDataException e)
            {
                throw new PromptRefusedException(PromptRefusal.Content, e.Message.Replace(temporary, name, StringComparison.Ordinal));
            }
            finally
            {
                File.Delete(temporary);
            }
        }
    }

    /// <summary>Takes a prompt out and deletes its file.</summary>
    /// <param name="name">Its name.</param>
    /// <exception cref="PromptRefusedException">There is none, or it is not a file of its own.</exception>
    public void Remove(string name)
    {
        lock (_changes)
        {
            ServedPrompt prompt = Find(name) ?? throw new PromptRefusedException(PromptRefusal.Unknown, $"There is no prompt '{Shown(name)}'.");
            if (prompt.Prompt is null)
                throw new PromptRefusedException(PromptRefusal.Foreign, $"'{name}' is the model itself and cannot be deleted.");
            if (!File.Exists(prompt.Path) && PromptSetFile.Split(prompt.Path) is { } part)
                throw new PromptRefusedException(PromptRefusal.Foreign, $"'{name}' is one of several prompts in {Path.GetFileName(part.Path)}. Write that file anew without it; the server notices.");
            if (Directory.Exists(prompt.Path))
                throw new PromptRefusedException(PromptRefusal.Foreign, $"'{name}' is a folder with files that this server did not write. Remove the folder itself from the prompts' folder; the server notices.");
            File.Delete(prompt.Path);
            _stamps.Remove(name);
            Replace(_prompts.Values.Where(p => p.Name != name));
        }
    }

    private void Scan(Action<Exception> complain)
    {
        if (_folder is null)
            return;
        lock (_changes)
        {
            var kept = new Dictionary<string, ServedPrompt>(StringComparer.Ordinal) { [_bare.Name] = _bare };
            var seen = new HashSet<string>(StringComparer.Ordinal);
            bool changed = false;
            foreach ((string name, string path) in Entries())
            {
                if (!ServedPrompt.IsName(name) || name == _bare.Name || !seen.Add(name))
                {
                    complain(new InvalidDataException(!ServedPrompt.IsName(name)
                        ? $"{path}: serving prompts; '{Shown(name)}' cannot name one, expected {ServedPrompt.NameRule}. Rename it."
                        : $"{path}: serving prompts; the name '{name}' is taken by {(name == _bare.Name ? "the model itself" : "another entry of the folder")}. Rename one of them."));
                    continue;
                }
                try
                {
                    Stamp stamp = StampOf(path);
                    bool known = _stamps.TryGetValue(name, out Stamp before);
                    ServedPrompt? old = Find(name);
                    if (known && before == stamp)
                    {
                        if (old is not null)
                            kept.Add(name, old);
                        continue;
                    }
                    _stamps[name] = stamp;
                    Prompt prompt = PromptFile.Read(path);
                    RequireUsable(prompt, path);
                    kept.Add(name, new ServedPrompt(name, path, prompt, Written(path)));
                    _complaints.RemoveWhere(c => c.Contains(path, StringComparison.Ordinal));
                    changed = true;
                }
                catch (Exception e) when (e is IOException or InvalidDataException or UnauthorizedAccessException or NotSupportedException)
                {
                    complain(e);
                }
            }
            foreach (string gone in _stamps.Keys.Where(n => !seen.Contains(n)).ToArray())
                _stamps.Remove(gone);
            if (changed || kept.Count != _prompts.Count)
                Replace(kept.Values);
        }
    }

    private void RequireUsable(Prompt prompt, string name)
    {
        prompt.RequireModel(_config, name);
        if (prompt.Length > _mostRows)
            throw new InvalidDataException($"{name}: serving a prompt; it has {prompt.Length} rows, expected at most {_mostRows}, the positions of a batch less those of the longest input. Take a shorter prompt.");
    }

    private IEnumerable<PromptEntry> Entries() => _folder is null || !Directory.Exists(_folder) ? [] : PromptFolder.Entries(_folder);

    private static Stamp StampOf(string path)
    {
        string address = path;
        if (!File.Exists(path) && PromptSetFile.Split(path) is { } part)
            path = part.Path;
        FileInfo[] files = Directory.Exists(path) ? new DirectoryInfo(path).GetFiles("*_*") : [new FileInfo(path)];
        // A folder that is being deleted: its files go first.
        if (files.Length == 0)
            throw new FileNotFoundException($"{path}: reading a prompt; the folder is empty now, expected an adapter's files. Copy it again, or remove the folder.", path);
        return new Stamp(address, files.Max(f => f.LastWriteTimeUtc), files.Sum(f => f.Length));
    }

    private static DateTimeOffset Written(string path) => new(StampOf(path).Written, TimeSpan.Zero);

    private static string Shown(string name) => name.Length > 120 ? name[..120] + "…" : name;

    private void Replace(IEnumerable<ServedPrompt> prompts) => _prompts = prompts.ToFrozenDictionary(p => p.Name, StringComparer.Ordinal);
}
